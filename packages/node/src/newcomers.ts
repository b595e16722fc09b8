/** With overlap a round is always under way; this holds the next one back a moment when somebody waits at the door. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ring } from '@gym-node/ring'
import { DOOR_AGAIN_MS, DOOR_WAIT_MS, LINGER_POLL_MS } from './defaults.ts'

/** Remembers whom it has waited for: a peer that cannot enter holds nobody up for long. */
export class Newcomers {
  readonly #waitedFor = new Map<string, number>()

  /** Resolves when nobody waits for this ring any more, or they have had their moment; throws the signal's reason. */
  async letIn(ring: Ring, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now()
    for (;;) {
      const due = atTheDoor(ring).filter((peer) => startedAt - this.#lastWait(peer) > DOOR_AGAIN_MS)
      if (due.length === 0) return
      if (performance.now() - startedAt > DOOR_WAIT_MS) {
        for (const peer of due) this.#waitedFor.set(peer, startedAt)
        return
      }
      await sleep(LINGER_POLL_MS, undefined, { signal })
    }
  }

  #lastWait(peer: string): number {
    return this.#waitedFor.get(peer) ?? -Infinity
  }
}

function atTheDoor({ status, view }: Ring): string[] {
  const members = new Set(view?.members)
  return status.members
    .filter(({ peerId, alive, inView }) => alive && !inView && !members.has(peerId))
    .map(({ peerId }) => peerId)
}
