/**
 * Repeating the draws of a traced step: does the seed, under this policy, lead to the traced tokens? One pass over the
 * given tokens tells for each of them the interval of the unit line that draws it, which costs a fraction of sampling
 * again; with filters on (top_k, top_p, min_p) the interval is another and the group is sampled again instead.
 */
import type { ResolvedConfig } from './config.ts'
import { DRAW_TOLERANCE, DRAW_TOLERANCE_4BIT } from './defaults.ts'
import type { DrawScores } from './policy-types.ts'
import { rollout, rolloutOptionsOf } from './rollout/rollout.ts'
import { STREAM, uniform } from './sampling/philox.ts'
import type { TracedGroup } from './trace/types.ts'
import type { RedrawnCompletion } from './trainer-types.ts'
import type { Workshop } from './workshop.ts'

/** Whether samples are filtered, so that a token's probability is not the length of its interval. */
export function isFiltered({ top_k, top_p, min_p }: ResolvedConfig): boolean {
  return top_k !== 0 || top_p !== 1 || min_p !== 0
}

/** Each completion of a group beside its draws, from their scores. */
export function compareDraws(
  { dataPosition, completions }: TracedGroup,
  scores: readonly DrawScores[],
  { seed, use_4bit: is4bit }: Pick<ResolvedConfig, 'seed' | 'use_4bit'>,
): RedrawnCompletion[] {
  const tolerance = is4bit ? DRAW_TOLERANCE_4BIT : DRAW_TOLERANCE
  return completions.map(({ tokens }, place) => {
    for (const [at, token] of tokens.entries()) {
      const u = uniform(seed, STREAM.sample, dataPosition, place, at)
      const below = scores[place]?.below[at] ?? NaN
      const above = below + Math.exp(scores[place]?.logps[at] ?? NaN)
      if (u >= below - tolerance && u < above + tolerance) continue
      return {
        isSame: false,
        difference: `token ${at} is ${token}, drawn from ${short(below)} to ${short(above)}, the seed draws ${short(u)}`,
      }
    }
    return { isSame: true, difference: '' }
  })
}

function short(value: number): string {
  return value.toPrecision(4)
}

/** Samples the groups again and compares. Rejects as `rollout` does. */
export async function resampleGroups(
  workshop: Workshop,
  groups: readonly TracedGroup[],
  signal: AbortSignal,
): Promise<RedrawnCompletion[][]> {
  const prompts = groups.map(({ dataPosition, promptIds }) => ({ position: dataPosition, ids: promptIds }))
  const sampled = await rollout(workshop.policy, prompts, rolloutOptionsOf(workshop, signal))
  return groups.map(({ completions }, index) =>
    completions.map(({ tokens }, place) => {
      const drawn = sampled[index]?.[place]?.tokens ?? new Int32Array(0)
      const isSame = tokens.length === drawn.length && tokens.every((token, at) => token === drawn[at])
      return {
        isSame,
        difference: isSame ? '' : `traced [${head(tokens)}], the seed draws [${head(drawn)}]`,
      }
    }),
  )
}

function head(tokens: Int32Array): string {
  return `${tokens.subarray(0, 8).join(' ')}${tokens.length > 8 ? ' …' : ''}`
}
