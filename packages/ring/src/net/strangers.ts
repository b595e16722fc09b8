/** Connected peers that are not of this job, left in peace for a growing while: relays, nodes of the DHT, other jobs. */
import { REDIAL_MIN_MS } from '../defaults.ts'
import { STRANGER_MS } from './defaults.ts'

/** Strangers remembered at most; beyond it the oldest is asked again early. */
const MAX_STRANGERS = 4_096

/** A bounded memory with times that run out. */
export class Strangers {
  readonly #entries = new Map<string, { until: number; waitMs: number }>()

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

  #set(peer: string, waitMs: number): void {
    this.#entries.delete(peer)
    const [oldest] = this.#entries.keys()
    if (oldest !== undefined && this.#entries.size >= MAX_STRANGERS) this.#entries.delete(oldest)
    this.#entries.set(peer, { until: performance.now() + waitMs, waitMs })
  }
}
