/** With overlap a round is always under way; this holds the next one back a moment when somebody waits at the door. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ring } from '@gym-node/ring'
import { DOOR_AGAIN_MS, DOOR_WAIT_MS, LINGER_POLL_MS } from './defaults.ts'

/** What a hold needs of time. `pause` rejects with the signal's reason. */
export interface DoorClock {
  /** ms of any monotonic clock */
  now(): number
  pause(ms: number, signal: AbortSignal): Promise<void>
}

const REAL_CLOCK: DoorClock = {
  now: () => performance.now(),
  pause: (ms, signal) => sleep(ms, undefined, { signal }),
}

/** Remembers whom it has waited for: a peer that cannot enter holds nobody up for long. */
export class Newcomers {
  readonly #clock: DoorClock
  readonly #waitedFor = new Map<string, number>()

  constructor(clock = REAL_CLOCK) {
    this.#clock = clock
  }

  /** Resolves when nobody waits for this ring any more, or they have had their moment; throws the signal's reason. */
  async letIn(ring: Pick<Ring, 'status' | 'view'>, signal: AbortSignal): Promise<void> {
    const startedAt = this.#clock.now()
    for (;;) {
      const due = atTheDoor(ring).filter((peer) => startedAt - this.#lastWait(peer) > DOOR_AGAIN_MS)
      if (due.length === 0) return
      if (this.#clock.now() - startedAt > DOOR_WAIT_MS) {
        for (const peer of due) this.#waitedFor.set(peer, startedAt)
        return
      }
      await this.#clock.pause(LINGER_POLL_MS, signal)
    }
  }

  #lastWait(peer: string): number {
    return this.#waitedFor.get(peer) ?? -Infinity
  }
}

function atTheDoor({ status, view }: Pick<Ring, 'status' | 'view'>): string[] {
  const members = new Set(view?.members)
  return status.members
    .filter(({ peerId, alive, inView }) => alive && !inView && !members.has(peerId))
    .map(({ peerId }) => peerId)
}
