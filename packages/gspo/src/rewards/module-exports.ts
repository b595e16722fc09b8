/** What a user's reward module exports, checked and made into named functions. Runs in the module's own thread. Pure. */
import { basename } from 'node:path'
import { GspoError } from '../errors.ts'
import type { BatchReward, SampleReward } from './types.ts'

/** One function of a module. */
export type ModuleReward =
  | { readonly name: string; readonly deterministic: false; readonly sample: SampleReward }
  | { readonly name: string; readonly deterministic: boolean; readonly batch: BatchReward['batch'] }

/** The reward functions of a loaded module's namespace. Throws GspoError BAD_REWARD on anything else. */
export function moduleRewards(file: string, loaded: unknown): ModuleReward[] {
  const exported =
    typeof loaded === 'object' && loaded !== null && 'default' in loaded ? loaded.default : undefined
  const entries: unknown[] = Array.isArray(exported) ? exported : [exported]
  if (entries.length === 0) throw new GspoError('BAD_REWARD', `${file}: the default export is an empty list`)
  return entries.map((entry, index) => {
    const fallback = entries.length === 1 ? basename(file) : `${basename(file)}#${index + 1}`
    if (isSampleReward(entry)) {
      const name = entry.name === 'default' || entry.name === '' ? fallback : entry.name
      return { name, deterministic: false, sample: entry }
    }
    if (isBatchReward(entry)) {
      return {
        name: entry.name ?? fallback,
        deterministic: entry.deterministic === true,
        // Called on its object: a batch reward may be a class.
        batch: (samples, call) => entry.batch(samples, call),
      }
    }
    throw new GspoError(
      'BAD_REWARD',
      `${file}: the default export${entries.length > 1 ? ` (entry ${index + 1})` : ''} is ${typeof entry}, expected a function (sample) => number, or { batch(samples) }, or a list of these`,
    )
  })
}

function isSampleReward(value: unknown): value is SampleReward {
  return typeof value === 'function'
}

function isBatchReward(value: unknown): value is BatchReward {
  return typeof value === 'object' && value !== null && 'batch' in value && typeof value.batch === 'function'
}
