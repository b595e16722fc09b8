/** What a trace claims against what its replay found: positions, logprobs, rewards, statistics, the delta. Pure. */

import type { AdapterLayout, ReplayedStep, ResolvedConfig, StepTrace } from '@gym-node/gspo'
import type { DeltaMetadata, DeltaTensor } from '@gym-node/wire'
import { checked, short, unchecked, type CheckResult } from './checks.ts'
import { MAX_PLACES_NAMED } from './defaults.ts'
import type { ReplayConfig } from './replay-config.ts'
import type { StoredComparison } from './replay-residual.ts'
import type { AdapterComparison, ReplayCheckName } from './replay-types.ts'

type Check = CheckResult<ReplayCheckName>

/** Steps as traced, each with its replay. */
export type StepPairs = readonly { readonly traced: StepTrace; readonly replayed: ReplayedStep }[]

/** The first few places in words, and how many more. */
function places(faults: readonly string[]): string | null {
  if (faults.length === 0) return null
  const more = faults.length - MAX_PLACES_NAMED
  return faults.slice(0, MAX_PLACES_NAMED).join('; ') + (more > 0 ? `; and ${more} more` : '')
}

/** Data positions, prompts and seed are the ones that the worker's state and seed lead to. */
export function positionsCheck(pairs: StepPairs): Check {
  const faults: string[] = []
  let groups = 0
  for (const { traced, replayed } of pairs) {
    if (traced.seed !== replayed.expectedSeed)
      faults.push(`step ${traced.step}: seed ${traced.seed}, expected ${replayed.expectedSeed}`)
    for (const [g, group] of traced.groups.entries()) {
      groups += 1
      const expected = replayed.groups[g]
      if (expected === undefined) continue
      const where = `step ${traced.step}, group ${g}`
      if (group.dataPosition !== expected.expectedDataPosition) {
        faults.push(
          `${where}: data position ${group.dataPosition}, expected ${expected.expectedDataPosition}`,
        )
      } else if (Buffer.compare(bytesOf(group.promptIds), bytesOf(expected.expectedPromptIds)) !== 0) {
        faults.push(`${where}: the prompt is not the data set's row at position ${group.dataPosition}`)
      }
    }
  }
  return checked('data_positions', places(faults), `${groups} prompts are the data set's, in order`)
}

function bytesOf(values: Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Calls `visit` for each completion with its recomputed counterpart and its place in words. */
function eachCompletion(
  pairs: StepPairs,
  visit: (
    traced: StepTrace['groups'][number]['completions'][number],
    replayed: ReplayedStep['groups'][number]['completions'][number],
    where: string,
    group: ReplayedStep['groups'][number],
  ) => void,
): void {
  for (const { traced, replayed } of pairs) {
    for (const [g, group] of traced.groups.entries()) {
      for (const [c, completion] of group.completions.entries()) {
        const replayedGroup = replayed.groups[g]
        const expected = replayedGroup?.completions[c]
        if (replayedGroup !== undefined && expected !== undefined)
          visit(completion, expected, `step ${traced.step}, group ${g}, completion ${c}`, replayedGroup)
      }
    }
  }
}

/**
 * The logprobs that the loss used are those of the sampled tokens under the policy (the idea of TOPLOC, arXiv
 * 2501.16007, with the logprobs themselves as the commitment).
 */
export function tokensCheck(pairs: StepPairs, tolerance: ReplayConfig): Check {
  if (tolerance.recompute_share === 0) return unchecked('tokens', 'no logprobs were recomputed')
  let [worst, sum, count] = [0, 0, 0]
  let worstPlace = ''
  eachCompletion(pairs, ({ logps }, replayed, where) => {
    if (replayed.logps.length === 0) return // neither picked for this check nor part of the loss
    for (const [t, logp] of logps.entries()) {
      const difference = Math.abs(logp - (replayed.logps[t] ?? NaN))
      sum += difference
      count += 1
      if (difference > worst || Number.isNaN(difference)) {
        worst = Number.isNaN(difference) ? Infinity : difference
        worstPlace = `${where}, token ${t}: traced ${short(logp)}, recomputed ${short(replayed.logps[t] ?? NaN)}`
      }
    }
  })
  const mean = sum / Math.max(1, count)
  const fault =
    worst > tolerance.max_logp_difference
      ? `a logprob differs by ${short(worst)}, allowed ${tolerance.max_logp_difference} (${worstPlace}); mean ${short(mean)}`
      : mean > tolerance.mean_logp_difference
        ? `logprobs differ by ${short(mean)} on average, allowed ${tolerance.mean_logp_difference}`
        : null
  return checked(
    'tokens',
    fault,
    `${count} logprobs, largest difference ${short(worst)}, mean ${short(mean)}`,
  )
}

/**
 * The tokens are as surprising as samples of the policy: -logp - entropy has mean zero for each sampled token, so its
 * sum over the round stays within a few deviations. Catches tokens of another model whose logprobs were recomputed
 * honestly. It needs unfiltered sampling: top_k, top_p and min_p make honest samples less surprising.
 */
export function samplingCheck(pairs: StepPairs, config: ResolvedConfig, tolerance: ReplayConfig): Check {
  if (config.top_k !== 0 || config.top_p !== 1 || config.min_p !== 0) {
    return unchecked(
      'sampling',
      'top_k, top_p or min_p filter the samples, so their surprise has another mean',
    )
  }
  if (tolerance.recompute_share === 0) return unchecked('sampling', 'no logprobs were recomputed')
  let [sum, squares, count] = [0, 0, 0]
  eachCompletion(pairs, (_traced, { logps, entropies }, _where, { isRecomputed }) => {
    if (!isRecomputed) return // the loss picks groups by their rewards, which tell how surprising they are
    for (const [t, logp] of logps.entries()) {
      const surprise = -logp - (entropies[t] ?? 0)
      sum += surprise
      squares += surprise * surprise
      count += 1
    }
  })
  const deviation = Math.sqrt(squares)
  const deviations = deviation === 0 ? 0 : sum / deviation
  const seen = `the tokens are ${short(Math.abs(sum / Math.max(1, count)))} nats ${sum < 0 ? 'less' : 'more'} surprising than samples of the policy, ${short(Math.abs(deviations))} deviations`
  return checked(
    'sampling',
    Math.abs(deviations) > tolerance.max_surprise_deviations
      ? `${seen}, allowed ${tolerance.max_surprise_deviations}`
      : null,
    seen,
  )
}

/** The seed draws the traced tokens of the groups that were picked. */
export function resamplingCheck(pairs: StepPairs, tolerance: ReplayConfig): Check {
  const faults: string[] = []
  let [same, total] = [0, 0]
  for (const { traced, replayed } of pairs) {
    for (const [g, { redrawn }] of replayed.groups.entries()) {
      for (const [c, { isSame, difference }] of (redrawn ?? []).entries()) {
        total += 1
        if (isSame) same += 1
        else faults.push(`step ${traced.step}, group ${g}, completion ${c}: ${difference}`)
      }
    }
  }
  if (total === 0) return unchecked('resampling', 'no draw was repeated')
  const share = same / total
  const seen = `${same} of ${total} completions come out as traced`
  return checked(
    'resampling',
    share < tolerance.min_resample_match ? `${seen}: ${places(faults) ?? ''}` : null,
    seen,
  )
}

/** Rewards recompute, where the reward functions are deterministic. */
export function rewardsCheck(pairs: StepPairs, tolerance: ReplayConfig): Check {
  const faults: string[] = []
  let [count, undetermined] = [0, 0]
  const differs = (seen: number, wanted: number): boolean =>
    !Object.is(seen, wanted) && !(Math.abs(seen - wanted) <= tolerance.max_reward_difference)
  eachCompletion(pairs, ({ reward, components }, replayed, where) => {
    if (!replayed.rewardIsDeterministic) {
      undetermined += 1
      return
    }
    count += 1
    const at = components.findIndex((value, i) => differs(value, replayed.components[i] ?? NaN))
    if (differs(reward, replayed.reward))
      faults.push(`${where}: reward ${short(reward)}, recomputed ${short(replayed.reward)}`)
    else if (at >= 0 || components.length !== replayed.components.length) {
      faults.push(
        `${where}: component ${at} is ${short(components[at] ?? NaN)}, recomputed ${short(replayed.components[at] ?? NaN)}`,
      )
    }
  })
  if (count === 0) return unchecked('rewards', `none of the ${undetermined} rewards is deterministic`)
  return checked('rewards', places(faults), `${count} rewards recompute`)
}

function relative(seen: number, wanted: number): number {
  return Math.abs(seen - wanted) / Math.max(1e-6, Math.abs(wanted))
}

/** What the delta's metadata claims of the work is what the trace shows. */
export function metadataCheck(
  metadata: DeltaMetadata,
  pairs: StepPairs,
  weight: number | undefined,
  tolerance: ReplayConfig,
): Check {
  const stats = pairs.map(({ replayed }) => replayed.stats)
  const mean = (of: (step: ReplayedStep['stats']) => number): number | null => {
    const finite = stats.map(of).filter(Number.isFinite)
    return finite.length === 0 ? null : finite.reduce((all, value) => all + value, 0) / finite.length
  }
  const total = (of: (step: ReplayedStep['stats']) => number): number =>
    stats.reduce((all, step) => all + of(step), 0)
  const faults: string[] = []
  for (const [name, seen, wanted] of [
    ['loss', metadata.loss, mean(({ loss }) => loss)],
    ['reward_mean', metadata.reward_mean, mean(({ rewardMean }) => rewardMean)],
  ] as const) {
    if (seen === wanted) continue
    // A loss of nearly zero is a difference of large terms: small absolute differences are rounding.
    const isNear =
      seen !== null &&
      wanted !== null &&
      (relative(seen, wanted) <= tolerance.max_metadata_difference || Math.abs(seen - wanted) < 1e-6)
    if (!isNear) faults.push(`${name} is ${seen}, the trace gives ${wanted}`)
  }
  const counts = {
    steps: stats.length,
    completions: total(({ completions }) => completions),
    prompt_tokens: total(({ promptTokens }) => promptTokens),
    generated_tokens: total(({ generatedTokens }) => generatedTokens),
  }
  if (weight !== undefined && weight !== counts.completions) {
    faults.push(`the ring counted weight ${weight}, the trace shows ${counts.completions} completions`)
  }
  for (const [name, wanted] of Object.entries({ ...counts, weight: counts.completions })) {
    const seen = metadata.extra?.[name]
    if (seen !== undefined && seen !== wanted)
      faults.push(`${name} is ${JSON.stringify(seen)}, the trace shows ${wanted}`)
  }
  return checked(
    'metadata',
    places(faults),
    `loss, rewards and counts are the trace's: ${counts.completions} completions, ${counts.generated_tokens} tokens`,
  )
}

/** Whether the delta has this layout's tensors, in its order. */
export function hasLayout(claimed: readonly DeltaTensor[], layout: AdapterLayout): boolean {
  return (
    claimed.length === layout.tensors.length &&
    layout.tensors.every(
      ({ name, shape }, at) => claimed[at]?.name === name && claimed[at].shape.join() === shape.join(),
    )
  )
}

/** The claimed delta, which has the layout, beside the replayed one. */
export function compareAdapters(
  claimed: readonly DeltaTensor[],
  difference: Float32Array,
  { stored, squaredDistance }: StoredComparison,
  layout: AdapterLayout,
): AdapterComparison {
  let [claimedSquares, storedSquares, differenceSquares, product, worst] = [0, 0, 0, 0, -1]
  let isIdentical = true
  let worstTensor = ''
  for (const [at, { name, offset }] of layout.tensors.entries()) {
    let tensorError = 0
    for (const [i, value] of (claimed[at]?.values ?? new Float32Array(0)).entries()) {
      const wanted = stored[offset + i] ?? 0
      if (value !== wanted) isIdentical = false
      tensorError += (value - wanted) ** 2
      claimedSquares += value * value
      storedSquares += wanted * wanted
      product += value * wanted
      differenceSquares += (difference[offset + i] ?? 0) ** 2
    }
    if (tensorError > worst) [worst, worstTensor] = [tensorError, name]
  }
  const isLossy = claimed.some(({ dtype }) => dtype !== 'f32')
  // A lossy file is measured against the work alone: what was left over before is given exactly.
  const reference = Math.max(isLossy ? differenceSquares : claimedSquares, Number.MIN_VALUE)
  return {
    isIdentical,
    isLossy,
    relativeError: isIdentical || squaredDistance === 0 ? 0 : Math.sqrt(squaredDistance / reference),
    scale: storedSquares === 0 ? NaN : product / storedSquares,
    worstTensor,
  }
}

/** The delta is what the traced steps give from the base. */
export function adapterCheck(
  comparison: AdapterComparison | null,
  stateAfterFault: string | null,
  tolerance: ReplayConfig,
): Check {
  if (comparison === null)
    return checked('adapter', "the delta's tensors are not those of this model and LoRA", '')
  const { isIdentical, isLossy, relativeError, scale, worstTensor } = comparison
  // Rounding hides last bits: a lossy file may be the same although the states it came from are not.
  const isSame = isIdentical && (!isLossy || stateAfterFault === null || tolerance.require_identical)
  if (isSame) return checked('adapter', stateAfterFault, 'bit-identical')
  const seen = `relative error ${short(relativeError)}, ${short(scale)} times the replayed delta, most of it in ${worstTensor}`
  if (tolerance.require_identical) return checked('adapter', `not bit-identical: ${seen}`, '')
  return checked(
    'adapter',
    relativeError > tolerance.max_adapter_error ? `${seen}; allowed ${tolerance.max_adapter_error}` : null,
    seen,
  )
}
