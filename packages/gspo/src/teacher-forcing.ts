/** Scores of given sequences, one pass each, in batches that fit in memory. */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import type { ResolvedConfig } from './config.ts'
import type { DrawScores, Policy, TokenBatch, TokenScores } from './policy-types.ts'
import { buildTokenBatch, splitByTokens } from './rollout/token-batch.ts'
import type { Sequence } from './rollout/token-batch.ts'

/** What batches are made by. */
type Batching = Pick<ResolvedConfig, 'micro_batch_tokens' | 'temperature'>

/**
 * Scores of every sequence's completion tokens, in order, under the policy's current adapter or (`adapter: false`) the
 * base model. Rejects with the signal's reason when it fires.
 */
export async function scoreSequences(
  policy: Policy,
  sequences: readonly Sequence[],
  { adapter, config }: { adapter: boolean; config: Batching },
  signal: AbortSignal,
): Promise<TokenScores[]> {
  const { temperature } = config
  const score = (batch: TokenBatch): Promise<TokenScores> => policy.logprobs(batch, { temperature, adapter })
  return inBatches(policy, sequences, config, score, signal, ({ logps, entropies }, start, end) => ({
    logps: logps.slice(start, end),
    entropies: entropies.slice(start, end),
  }))
}

/** The same under the current adapter, and where the draws of each token begin. */
export async function drawScoresOf(
  policy: Policy,
  sequences: readonly Sequence[],
  config: Batching,
  signal: AbortSignal,
): Promise<DrawScores[]> {
  const score = (batch: TokenBatch): Promise<DrawScores> => policy.drawScores(batch, config)
  return inBatches(policy, sequences, config, score, signal, ({ logps, entropies, below }, start, end) => ({
    logps: logps.slice(start, end),
    entropies: entropies.slice(start, end),
    below: below.slice(start, end),
  }))
}

async function inBatches<T>(
  policy: Policy,
  sequences: readonly Sequence[],
  config: Batching,
  score: (batch: TokenBatch) => Promise<T>,
  signal: AbortSignal,
  cut: (scores: T, start: number, end: number) => T,
): Promise<T[]> {
  const found: T[] = []
  for (const part of splitByTokens(sequences, config.micro_batch_tokens)) {
    await yieldToEvents()
    signal.throwIfAborted()
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const scores = await score(batch)
    for (const [row, { tokens }] of part.entries()) {
      const start = row * batch.completionLength
      found.push(cut(scores, start, start + tokens.length))
    }
  }
  return found
}
