/** Thresholds of the quality check against poisoned deltas, each with its unit and its reason. */

import { z } from 'zod'

/** Section `validator.quality`. */
export const qualityConfigSchema = z.strictObject({
  // A round's honest norms differ by tens of per cent; six robust deviations of at least 15 % is a factor of 2.5.
  max_norm_deviation: z
    .number()
    .positive()
    .default(6)
    .describe(
      'Robust deviations (MAD) by which a delta’s log norm may differ from the other deltas of the round.',
    ),
  min_norm_spread: z
    .number()
    .positive()
    .default(0.15)
    .describe(
      'Least spread of log norms that counts as one deviation, so that equal norms do not condemn the next one.',
    ),
  // One layer can be poisoned inside an unremarkable total; single layers vary more than totals, so they get more room.
  max_tensor_norm_deviation: z
    .number()
    .positive()
    .default(10)
    .describe('The same for the norm of each tensor.'),
  // Honest updates of one round correlate positively or, in high noise, not at all; a clear negative is a pull backwards.
  min_cosine: z
    .number()
    .min(-1)
    .max(1)
    .default(-0.2)
    .describe('Least cosine between a delta and the mean direction of the others.'),
  min_sign_agreement: z
    .number()
    .min(0)
    .max(1)
    .default(0.4)
    .describe(
      'Least share of non-zero elements whose sign is the majority’s of the others; chance gives 0.5.',
    ),
  // Two runs on different rollouts never agree to three digits in thousands of dimensions.
  max_copy_cosine: z
    .number()
    .min(0)
    .max(1)
    .default(0.999)
    .describe('Cosine (absolute) from which a delta counts as a scaled copy of an earlier one.'),
  min_others: z
    .int()
    .min(1)
    .default(2)
    .describe('Other deltas of the round that comparisons need; with fewer they are not made.'),
  evaluation_limit: z
    .int()
    .min(1)
    .default(128)
    .describe('Samples of the held-out set on which base and base + delta are compared.'),
  max_reward_drop: z
    .number()
    .min(0)
    .default(0.05)
    .describe('Drop of the mean held-out reward that is tolerated in any case.'),
  reward_drop_deviations: z
    .number()
    .min(0)
    .default(3)
    .describe(
      'Standard errors of the accuracy’s difference that are tolerated besides, so that a small set condemns nobody.',
    ),
})

/** Complete thresholds. */
export type QualityConfig = z.infer<typeof qualityConfigSchema>
