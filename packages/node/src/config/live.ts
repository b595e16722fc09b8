/** Which keys a running daemon takes over when its configuration is read again, and which wait for a restart. */
import { isDeepStrictEqual } from 'node:util'
import { CONFIG_KEYS, type ConfigKey } from './keys.ts'
import type { NodeConfig } from './schema.ts'

/**
 * Keys that change at once: nothing that peers must agree on, and nothing that is opened only once. Whom this node talks
 * to is among them, so that a hostile member can be put out while the ring runs.
 */
export const LIVE_KEYS = [
  'log.level',
  'network.allow',
  'network.deny',
  'train.rounds',
  'train.delta_keep_rounds',
  'train.trace_keep_rounds',
] as const

/** What a second reading of the configuration changed. */
export interface ConfigChange {
  /** Keys whose new value holds from now on. */
  readonly applied: readonly string[]
  /** Keys that differ and hold only after a restart. */
  readonly needRestart: readonly string[]
}

/** Writes the live keys of `next` into `running`, in place: the daemon's parts hold it and read these keys at use. */
export function takeOverLiveKeys(running: NodeConfig, next: NodeConfig): ConfigChange {
  const changed = changedKeys(running, next)
  running.log.level = next.log.level
  running.network.allow = next.network.allow
  running.network.deny = next.network.deny
  running.train.rounds = next.train.rounds
  running.train.delta_keep_rounds = next.train.delta_keep_rounds
  running.train.trace_keep_rounds = next.train.trace_keep_rounds
  const isLive = (path: string): boolean => LIVE_KEYS.some((key) => key === path)
  return { applied: changed.filter(isLive), needRestart: changed.filter((path) => !isLive(path)) }
}

/** Dotted paths of the keys whose values differ, sections opened. Pure. */
function changedKeys(before: NodeConfig, after: NodeConfig): string[] {
  const walk = (keys: readonly ConfigKey[], left: unknown, right: unknown): string[] =>
    keys.flatMap((key) => {
      const name = key.path.slice(key.path.lastIndexOf('.') + 1)
      const [a, b] = [valueAt(left, name), valueAt(right, name)]
      if (isDeepStrictEqual(a, b)) return []
      const isSection = key.children.length > 0 && !Array.isArray(a) && !Array.isArray(b)
      return isSection ? walk(key.children, a, b) : [key.path]
    })
  return walk(CONFIG_KEYS, before, after)
}

function valueAt(section: unknown, name: string): unknown {
  return typeof section === 'object' && section !== null ? Reflect.get(section, name) : undefined
}
