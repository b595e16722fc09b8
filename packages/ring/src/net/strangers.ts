/**
 * Connected peers that are not of this job, left in peace for a growing while: relays, nodes of the DHT, other jobs. And
 * peers that broke the rules of the control stream again and again, whose streams are refused for as long.
 */
import { REDIAL_MIN_MS } from '../defaults.ts'
import { MOST_OFFENCES, STRANGER_MS } from './defaults.ts'

/** Strangers remembered at most; beyond it the oldest is asked again early. */
const MAX_STRANGERS = 4_096

/** A bounded memory with times that run out. */
export class Strangers {
  readonly #entries = new Map<string, { until: number; waitMs: number }>()
  readonly #outdated = new Map<string, number>()
  readonly #offences = new Map<string, { count: number; until: number }>()

  /** The peer works on another job. */
  noteForeign(peer: string): void {
    this.#set(peer, STRANGER_MS)
  }

  /** The peer does not speak the protocol: it may be starting, so the first waits are short. */
  noteSilent(peer: string): void {
    const before = this.#entries.get(peer)?.waitMs ?? REDIAL_MIN_MS / 2
    this.#set(peer, Math.min(STRANGER_MS, 2 * before))
  }

  /** Whether the peer is to be left in peace now. */
  has(peer: string): boolean {
    return performance.now() < (this.#entries.get(peer)?.until ?? 0)
  }

  /** The peer speaks an older version of the protocol. */
  noteOutdated(peer: string): void {
    put(this.#outdated, peer, performance.now() + STRANGER_MS)
  }

  /** Whether that was noted just now. */
  isOutdated(peer: string): boolean {
    return performance.now() < (this.#outdated.get(peer) ?? 0)
  }

  /** The peer broke a rule; `weight` counts it as so many offences. */
  noteOffence(peer: string, weight = 1): void {
    const now = performance.now()
    const before = this.#offences.get(peer)
    const count = before !== undefined && now < before.until ? before.count : 0
    put(this.#offences, peer, { count: count + weight, until: now + STRANGER_MS })
  }

  /** Whether the peer has broken rules so often that it is not heard now. */
  isShut(peer: string): boolean {
    const offences = this.#offences.get(peer)
    return offences !== undefined && offences.count >= MOST_OFFENCES && performance.now() < offences.until
  }

  #set(peer: string, waitMs: number): void {
    put(this.#entries, peer, { until: performance.now() + waitMs, waitMs })
  }
}

/** Sets an entry as the newest; the oldest makes room. */
function put<T>(entries: Map<string, T>, peer: string, entry: T): void {
  entries.delete(peer)
  const [oldest] = entries.keys()
  if (oldest !== undefined && entries.size >= MAX_STRANGERS) entries.delete(oldest)
  entries.set(peer, entry)
}
