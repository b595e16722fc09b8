/**
 * Which parts of a training configuration a whole job shares and which are a worker's own, what of it goes into a
 * trace, and with which configuration a trace is replayed. Pure.
 */

import { basename } from 'node:path'
import type { GSPOConfig, ResolvedConfig } from '@gym-node/gspo'
import { MAX_REPLAY_DECODING_ROWS, MAX_REPLAY_MICRO_BATCH_TOKENS } from './defaults.ts'

/**
 * Keys that workers of one job may set differently. Paths and engine are checked by hashes instead; the others change
 * speed and memory, or (seed) must differ. `max_steps` ends a worker's schedule and is the job's.
 */
export const LOCAL_KEYS: readonly string[] = [
  'model',
  'dataset',
  'adapter',
  'engine',
  'threads',
  'memory_limit_mb',
  'gradient_checkpointing',
  'seed',
  'micro_batch_tokens',
  'max_decoding_rows',
]

/** Settings of a reward that are a worker's own: how it is reached, not what it answers. */
const LOCAL_REWARD_KEYS = new Set([
  'headers',
  'timeout_ms',
  'sample_timeout_ms',
  'batch_size',
  'retries',
  'url',
])

type Reward = ResolvedConfig['rewards'][number]

function jobReward(reward: Reward): unknown {
  const shared = Object.entries(reward).filter(([key]) => !LOCAL_REWARD_KEYS.has(key))
  return Object.fromEntries(
    shared.map(([key, value]) => [key, key === 'module' ? basename(String(value)) : value]),
  )
}

/** The configuration as a trace tells it to strangers: names instead of paths, no HTTP headers. */
export function publicConfig(config: ResolvedConfig): GSPOConfig {
  const { dataset, adapter, ...rest } = config
  const files = typeof dataset === 'string' ? [dataset] : dataset
  const [first = 'dataset', ...others] = files.map((path) => basename(path))
  const rewards = config.rewards.map((reward): Reward => {
    if ('module' in reward) return { ...reward, module: basename(reward.module) }
    return reward.name === 'http' ? { ...reward, headers: {} } : reward
  })
  const [firstReward, ...otherRewards] = rewards
  return {
    ...rest,
    ...(adapter === undefined ? {} : { adapter: basename(adapter) }),
    ...(firstReward === undefined ? {} : { rewards: [firstReward, ...otherRewards] }),
    model: basename(config.model),
    dataset: [first, ...others],
  }
}

/** Stable text of a JSON-like value: object keys sorted. */
function stable(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([left], [right]) => (left < right ? -1 : 1)))
      : inner,
  )
}

/** Keys in which a trace's configuration differs from the job's, in words; empty when they agree. */
export function configDifferences(job: ResolvedConfig, traced: ResolvedConfig): string[] {
  const keys = new Set([...Object.keys(job), ...Object.keys(traced)] as (keyof ResolvedConfig)[])
  const differences: string[] = []
  for (const key of keys) {
    if (LOCAL_KEYS.includes(key)) continue
    const [wanted, seen] =
      key === 'rewards'
        ? [job.rewards.map(jobReward), traced.rewards.map(jobReward)]
        : [job[key], traced[key]]
    // Targets are a set: their order changes nothing.
    const text = (value: unknown): string | undefined =>
      key === 'lora_targets' && Array.isArray(value) ? stable([...(value as string[])].sort()) : stable(value)
    if (text(wanted) !== text(seen))
      differences.push(`${key} is ${text(seen) ?? 'not set'}, the job has ${text(wanted) ?? 'none'}`)
  }
  return differences
}

/**
 * The configuration that replays a trace here: the job's, with this machine's paths and engine, and the worker's
 * batching, which decides in which order numbers are added; the worker's sizes are capped, so that a trace cannot
 * make a validator run out of memory.
 */
export function replayConfigOf(job: ResolvedConfig, traced: ResolvedConfig): GSPOConfig {
  return {
    ...job,
    micro_batch_tokens: Math.min(
      traced.micro_batch_tokens,
      Math.max(job.micro_batch_tokens, MAX_REPLAY_MICRO_BATCH_TOKENS),
    ),
    max_decoding_rows: Math.min(
      traced.max_decoding_rows,
      Math.max(job.max_decoding_rows, MAX_REPLAY_DECODING_ROWS),
    ),
  }
}
