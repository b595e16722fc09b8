/**
 * The quality check against poison: is a delta plausible beside the round's others, and does the model lose by it?
 * It judges what a delta does, not how it was made; that is the replay's part. Statistics can only catch the outlier:
 * a poison that looks like an honest delta needs the held-out set or the replay.
 */

import type { Trainer } from '@gym-node/gspo'
import { checked, isAccepted, short, unchecked, type CheckResult } from './checks.ts'
import type { QualityConfig } from './quality-config.ts'
import { deltaStatistics, type DeltaStatistics, type Span } from './quality-statistics.ts'

/** Names of the quality checks. */
export type QualityCheckName =
  'finite' | 'not_zero' | 'norm' | 'tensor_norm' | 'direction' | 'signs' | 'not_a_copy' | 'held_out_reward'

/** A worker's delta of the round, in the adapter's layout. */
export interface RoundDelta {
  readonly workerId: string
  readonly values: Float32Array
}

/** The answer for one delta. */
export interface QualityVerdict {
  readonly workerId: string
  readonly ok: boolean
  readonly checks: readonly CheckResult<QualityCheckName>[]
  readonly statistics: DeltaStatistics
}

type Check = CheckResult<QualityCheckName>

function comparisons(found: DeltaStatistics, config: QualityConfig, deltas: readonly RoundDelta[]): Check[] {
  const few = `fewer than ${config.min_others} other usable deltas in the round`
  const { normDeviation, worstTensor, cosine, signAgreement, nearest } = found
  const copied = nearest === null ? undefined : deltas[nearest.index]
  const isCopy = nearest !== null && Math.abs(nearest.cosine) >= config.max_copy_cosine
  return [
    normDeviation === null
      ? unchecked('norm', few)
      : checked(
          'norm',
          Math.abs(normDeviation) > config.max_norm_deviation
            ? `norm ${short(found.norm)} is ${short(normDeviation)} deviations from the others’, allowed ${config.max_norm_deviation}`
            : null,
          `norm ${short(found.norm)}, ${short(normDeviation)} deviations from the others’`,
        ),
    worstTensor === null
      ? unchecked('tensor_norm', few)
      : checked(
          'tensor_norm',
          Math.abs(worstTensor.deviation) > config.max_tensor_norm_deviation
            ? `${worstTensor.name} has norm ${short(worstTensor.norm)} against ${short(worstTensor.median)} of the others, ` +
                `${short(worstTensor.deviation)} deviations, allowed ${config.max_tensor_norm_deviation}`
            : null,
          `largest is ${short(worstTensor.deviation)} deviations, ${worstTensor.name}`,
        ),
    cosine === null
      ? unchecked('direction', few)
      : checked(
          'direction',
          cosine < config.min_cosine
            ? `cosine ${short(cosine)} with the others, at least ${config.min_cosine} expected`
            : null,
          `cosine ${short(cosine)} with the others`,
        ),
    signAgreement === null
      ? unchecked('signs', few)
      : checked(
          'signs',
          signAgreement < config.min_sign_agreement
            ? `${short(signAgreement)} of the signs agree with the others, at least ${config.min_sign_agreement} expected`
            : null,
          `${short(signAgreement)} of the signs agree with the others`,
        ),
    nearest === null
      ? unchecked('not_a_copy', 'no earlier delta in the round')
      : checked(
          'not_a_copy',
          isCopy
            ? `${short(nearest.scale)} times the delta of ${copied?.workerId ?? 'another'} (cosine ${nearest.cosine.toFixed(6)})`
            : null,
          `largest cosine with an earlier delta is ${short(nearest.cosine)}`,
        ),
  ]
}

/** Judges a round's deltas, given in order of arrival, by statistics alone. */
export function judgeRound(
  deltas: readonly RoundDelta[],
  spans: readonly Span[],
  config: QualityConfig,
): QualityVerdict[] {
  const vectors = deltas.map(({ values }) => values)
  const measured = deltaStatistics(vectors, spans, {
    minOthers: config.min_others,
    minSpread: config.min_norm_spread,
  })
  return deltas.flatMap(({ workerId, values }, i) => {
    const found = measured[i]
    if (found === undefined) return []
    const spot = spans.find(
      ({ offset, length }) => found.firstNonFinite >= offset && found.firstNonFinite < offset + length,
    )
    const checks: Check[] = [
      checked(
        'finite',
        found.nonFinite > 0
          ? `${found.nonFinite} of ${values.length} numbers are not finite, the first is element ${found.firstNonFinite - (spot?.offset ?? 0)} of ${spot?.name ?? 'the delta'}`
          : null,
        `${values.length} finite numbers`,
      ),
      checked(
        'not_zero',
        found.norm === 0 ? 'the delta is zero everywhere: it moves nothing' : null,
        `norm ${short(found.norm)}`,
      ),
      ...comparisons(found, config, deltas),
    ]
    return [{ workerId, ok: isAccepted(checks), checks, statistics: found }]
  })
}

/** What the model reached on the held-out set. */
export interface HeldOutScore {
  readonly samples: number
  readonly rewardMean: number
  /** Share of exact answers; its binomial error says how much of a difference is chance. */
  readonly accuracy: number
}

/** Judges a delta by the held-out set: base alone against base + delta, greedy, on the same samples. Pure. */
export function judgeReward(
  base: HeldOutScore,
  withDelta: HeldOutScore,
  config: QualityConfig,
): CheckResult<'held_out_reward'> {
  const variance = ({ accuracy, samples }: HeldOutScore): number =>
    (accuracy * (1 - accuracy)) / Math.max(1, samples)
  const chance = config.reward_drop_deviations * Math.sqrt(variance(base) + variance(withDelta))
  const tolerated = Math.max(config.max_reward_drop, chance)
  const drop = base.rewardMean - withDelta.rewardMean
  const seen = `reward ${short(base.rewardMean)} without the delta, ${short(withDelta.rewardMean)} with it, ${withDelta.samples} samples`
  return checked(
    'held_out_reward',
    drop > tolerated || Number.isNaN(drop) ? `${seen}; a drop of ${short(tolerated)} is tolerated` : null,
    seen,
  )
}

/** Where and how deltas are tried. */
export interface RewardTrial {
  /** A trainer that is not training: its adapter is written over, and put back at the end. */
  readonly trainer: Pick<Trainer, 'readAdapter' | 'writeAdapter' | 'evaluate'>
  /** The adapter at the round's start. */
  readonly baseAdapter: Float32Array
  /** Held-out JSONL, which workers do not train on. */
  readonly dataset: string
  readonly signal?: AbortSignal
}

/** Evaluates base + delta for each delta on the held-out set, and the base once. Costs n + 1 evaluations. */
export async function tryDeltas(
  deltas: readonly RoundDelta[],
  trial: RewardTrial,
  config: QualityConfig,
): Promise<CheckResult<'held_out_reward'>[]> {
  const { trainer, baseAdapter, dataset, signal } = trial
  const evaluate = async (adapter: Float32Array): Promise<HeldOutScore> => {
    await trainer.writeAdapter(adapter)
    const options = { dataset, limit: config.evaluation_limit, mode: 'greedy' } as const
    return trainer.evaluate(signal === undefined ? options : { ...options, signal })
  }
  const kept = await trainer.readAdapter()
  try {
    const base = await evaluate(baseAdapter)
    const results: CheckResult<'held_out_reward'>[] = []
    for (const { values } of deltas) {
      if (!values.every(Number.isFinite)) {
        results.push(unchecked('held_out_reward', 'the delta is not finite'))
        continue
      }
      results.push(
        judgeReward(base, await evaluate(baseAdapter.map((value, i) => value + (values[i] ?? 0))), config),
      )
    }
    return results
  } finally {
    await trainer.writeAdapter(kept)
  }
}
