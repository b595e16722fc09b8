/** Logprobs and entropies of given sequences, one pass each, in batches that fit in memory. */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import type { ResolvedConfig } from './config.ts'
import type { Policy, TokenScores } from './policy-types.ts'
import { buildTokenBatch, splitByTokens } from './rollout/token-batch.ts'
import type { Sequence } from './rollout/token-batch.ts'

/**
 * Scores of every sequence's completion tokens, in order, under the policy's current adapter or (`adapter: false`) the
 * base model. Rejects with the signal's reason when it fires.
 */
export async function scoreSequences(
  policy: Policy,
  sequences: readonly Sequence[],
  options: { adapter: boolean; config: Pick<ResolvedConfig, 'micro_batch_tokens' | 'temperature'> },
  signal: AbortSignal,
): Promise<TokenScores[]> {
  const scores: TokenScores[] = []
  for (const part of splitByTokens(sequences, options.config.micro_batch_tokens)) {
    await yieldToEvents()
    signal.throwIfAborted()
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const { logps, entropies } = await policy.logprobs(batch, {
      temperature: options.config.temperature,
      adapter: options.adapter,
    })
    for (const [row, { tokens }] of part.entries()) {
      const start = row * batch.completionLength
      const end = start + tokens.length
      scores.push({ logps: logps.slice(start, end), entropies: entropies.slice(start, end) })
    }
  }
  return scores
}
