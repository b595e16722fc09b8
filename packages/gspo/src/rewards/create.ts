/** From the `rewards` section of a config to reward functions ready to be called. */
import { readFile } from 'node:fs/promises'
import type { RewardConfig } from '../config.ts'
import { MAX_TIMER_MS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import { exactMatch, jsonValid, lengthPenalty, numericMatch, regexMatch } from './built-in.ts'
import type { Scorer } from './built-in.ts'
import { boundedReward } from './bounded.ts'
import { httpReward } from './http.ts'
import { loadRewardModule } from './module.ts'
import { closeRewards } from './score.ts'
import type { WeightedReward } from './score.ts'
import type { RewardFunction } from './types.ts'

/** Builds every configured reward; `closeRewards` gives back what they hold. Throws GspoError BAD_CONFIG, BAD_REWARD or FILE_MISSING. */
export async function createRewards(configs: readonly RewardConfig[]): Promise<WeightedReward[]> {
  const rewards: WeightedReward[] = []
  try {
    for (const config of configs) {
      for (const reward of await createReward(config)) {
        const timeoutMs =
          'name' in config && config.name === 'http' ? httpDeadline(config) : config.timeout_ms
        rewards.push({ reward, weight: config.weight, timeoutMs })
      }
    }
  } catch (error) {
    await closeRewards(rewards)
    throw error
  }
  return rewards
}

async function createReward(config: RewardConfig): Promise<RewardFunction[]> {
  if ('module' in config) return loadRewardModule(config.module, config.timeout_ms)
  switch (config.name) {
    case 'exact_match':
      return [builtIn(config.name, exactMatch)]
    case 'numeric':
      return [builtIn(config.name, numericMatch(config.tolerance))]
    case 'regex':
      return [
        boundedReward(
          config.name,
          `the pattern ${config.pattern}`,
          config.sample_timeout_ms,
          regexMatch(config.pattern, config.flags, config.match_answer),
        ),
      ]
    case 'json': {
      const schema = typeof config.schema === 'string' ? await readSchema(config.schema) : config.schema
      return [boundedReward(config.name, 'the schema', config.sample_timeout_ms, jsonValid(schema))]
    }
    case 'length':
      return [builtIn(config.name, lengthPenalty(config.max_tokens, config.soft_tokens))]
    case 'http':
      return [
        httpReward(config.name, {
          url: config.url,
          headers: config.headers,
          batchSize: config.batch_size,
          timeoutMs: config.timeout_ms,
          retries: config.retries,
          deterministic: config.deterministic,
        }),
      ]
  }
}

function builtIn(name: string, scorer: Scorer): RewardFunction {
  return { name, deterministic: true, score: (samples) => Promise.resolve(samples.map(scorer)) }
}

/** An endpoint has its deadline a try inside; the whole call may take all tries and their waits of a full rollout. */
function httpDeadline(config: { timeout_ms: number; retries: number }): number {
  return Math.min(MAX_TIMER_MS, config.timeout_ms * (config.retries + 1) * 64)
}

async function readSchema(path: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw new GspoError('FILE_MISSING', `cannot read the JSON schema ${path} of reward json`, { cause })
  }
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (cause) {
    throw new GspoError('BAD_CONFIG', `the JSON schema ${path} of reward json is not valid JSON`, { cause })
  }
}
