/** Tolerances of the replay, each with its unit and its reason; docs/VALIDATION.md has the measurements behind them. */

import { z } from 'zod'

/** Section `validator.replay`. */
export const replayConfigSchema = z.strictObject({
  // float32 on one machine: 9e-6 was the largest seen (prefill against KV cache). 16-bit or 4-bit decoding elsewhere may
  // reach some hundredths; another model is off by tenths at once.
  max_logp_difference: z
    .number()
    .positive()
    .default(0.05)
    .describe('Largest difference (nats) between a token’s traced and recomputed logprob.'),
  mean_logp_difference: z
    .number()
    .positive()
    .default(0.002)
    .describe('Largest mean difference (nats) between traced and recomputed logprobs.'),
  // The sum of (-logp - entropy) over sampled tokens is a martingale: six deviations are 1 in 500 million rounds.
  max_surprise_deviations: z
    .number()
    .positive()
    .default(6)
    .describe(
      'Deviations by which the tokens may be more or less surprising than samples of the policy are.',
    ),
  // The worker does not know which: a fraud in a share f of n checked groups goes unseen with probability (1 - f)^n.
  recompute_share: z
    .number()
    .min(0)
    .max(1)
    .default(0.125)
    .describe('Share of the round’s groups, at least two, whose logprobs are recomputed, picked at random.'),
  resample_share: z
    .number()
    .min(0)
    .max(1)
    .default(0.0625)
    .describe(
      'Share of the round’s groups, at least one, that are sampled again from the seed; 0 samples none.',
    ),
  // Float32 engines that differ in the last bits flip a draw about once in 10^5 tokens, so honest shares are near 1;
  // another model with the same draws still agreed on 78 % of short completions.
  min_resample_match: z
    .number()
    .min(0)
    .max(1)
    .default(0.9)
    .describe('Least share of resampled completions that must come out as traced.'),
  max_reward_difference: z
    .number()
    .min(0)
    .default(1e-6)
    .describe(
      'Largest difference between a traced and a recomputed reward, where rewards are deterministic.',
    ),
  max_metadata_difference: z
    .number()
    .min(0)
    .default(1e-3)
    .describe('Largest relative difference of the claimed loss and mean reward.'),
  require_identical: z
    .boolean()
    .default(false)
    .describe(
      'Accept only a bit-identical adapter; use it where all nodes run the same engine on like machines.',
    ),
  // Another order of additions (batching, threads) was off by at most 4.6e-5 in a round of four steps.
  max_adapter_error: z
    .number()
    .positive()
    .default(0.001)
    .describe('Largest |replayed - claimed| / |claimed| of the delta, where it is not bit-identical.'),
})

/** Complete tolerances. */
export type ReplayConfig = z.infer<typeof replayConfigSchema>
