/**
 * A reward endpoint over HTTP: POST { samples: [{ prompt, completion, answer, columns }] }, answered by
 * { rewards: [number | null] }. Requests are batched, have a deadline and a retry limit; a failed batch is unscorable.
 */
import { postJson } from '../http/post-json.ts'
import type { RewardFunction, Score } from './types.ts'

/** How the endpoint is called. */
export interface HttpRewardOptions {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly batchSize: number
  readonly timeoutMs: number
  readonly retries: number
  readonly deterministic: boolean
}

/** A reward function that asks an endpoint. */
export function httpReward(name: string, options: HttpRewardOptions): RewardFunction {
  return {
    name,
    deterministic: options.deterministic,
    async score(samples, call) {
      const scores: (Score | Error)[] = []
      for (let start = 0; start < samples.length; start += options.batchSize) {
        const batch = samples.slice(start, start + options.batchSize)
        const body = {
          samples: batch.map(({ prompt, completion, answer, columns }) => ({
            prompt,
            completion,
            answer,
            columns,
          })),
        }
        try {
          const answer = await postJson(options.url, body, { ...options, signal: call.signal })
          scores.push(...rewardsOf(answer, batch.length))
        } catch (cause) {
          call.signal.throwIfAborted()
          const error = cause instanceof Error ? cause : new Error(String(cause))
          for (let i = 0; i < batch.length; i++) scores.push(error)
        }
      }
      return scores
    },
  }
}

function rewardsOf(answer: unknown, expected: number): Score[] {
  const rewards =
    typeof answer === 'object' && answer !== null && 'rewards' in answer ? answer.rewards : undefined
  if (!Array.isArray(rewards) || rewards.length !== expected)
    throw new Error(
      `answered ${Array.isArray(rewards) ? `${rewards.length} rewards` : 'no "rewards" list'} for ${expected} samples`,
    )
  return rewards as Score[]
}
