/** Numbers of completion tokens, gathered over the parts of a batch. */
import type { PackedBatch } from './batch.ts'
import type { Feed } from './engine/engine.ts'
import type { DrawScores, TokenBatch, TokenScores } from './policy-types.ts'

/** Scores of no token yet: all zero, [rows * completionLength]. */
export function emptyScores({ rows, completionLength }: TokenBatch): TokenScores {
  return {
    logps: new Float32Array(rows * completionLength),
    entropies: new Float32Array(rows * completionLength),
  }
}

/** Puts the numbers of one part's completion tokens to their places in the batch; NaN where the engine gave none. */
export function scatterScores(
  scores: TokenScores & Partial<DrawScores>,
  batch: TokenBatch,
  part: PackedBatch,
  out: Readonly<Record<string, Feed>>,
): void {
  const base = part.firstRow * batch.completionLength
  for (const name of ['logps', 'entropies', 'below'] as const) {
    const [into, values] = [scores[name], out[name]?.values]
    if (into === undefined) continue
    for (const [index, slot] of part.slots.entries()) into[base + slot] = values?.[index] ?? NaN
  }
}
