/** Says that a node waits for its ring, and for what, once the wait is longer than what every round has. */
import type { RingPhase, RingStatus } from '@gym-node/ring'
import { WAITING_REFRESH_MS, WAITING_SHOWN_MS } from './defaults.ts'
import type { DaemonEvent } from './status.ts'

/** What to say, and to whom. */
export interface WaitingParts {
  readonly status: () => Pick<RingStatus, 'phase' | 'members'>
  readonly minMembers: number
  readonly emit: (event: DaemonEvent) => void
  /** The first wait of a stretch in the ring is said at once; later ones only when they last. */
  readonly isFirst: boolean
}

/** Waits for `ready` and meanwhile emits the state `waiting_for_peers` or `syncing`, again when the reason changes. */
export async function sayWhileWaiting<T>(ready: Promise<T>, parts: WaitingParts): Promise<T> {
  let said = ''
  const say = (): void => {
    const { phase, members } = parts.status()
    const reason = waitingReason(phase, members, parts.minMembers)
    if (reason === said) return
    said = reason
    parts.emit({ type: 'state', state: phase === 'syncing' ? 'syncing' : 'waiting_for_peers', reason })
  }
  if (parts.isFirst) say()
  let again: NodeJS.Timeout | undefined
  const later = setTimeout(() => {
    say()
    again = setInterval(say, WAITING_REFRESH_MS)
  }, WAITING_SHOWN_MS)
  try {
    return await ready
  } finally {
    clearTimeout(later)
    clearInterval(again)
  }
}

/** One sentence on what is missing. `members` are the peers of the job as the ring sees them, with or without this node. Pure. */
export function waitingReason(phase: RingPhase, members: RingStatus['members'], minMembers: number): string {
  const alive = members.filter((member) => member.alive).length
  const inView = members.filter((member) => member.inView)
  switch (phase) {
    case 'alone':
      return minMembers <= 1
        ? 'forms a ring of its own'
        : `no other node of this job has been found yet, ${minMembers} are needed`
    case 'forming':
      return `waits for a view with at least ${minMembers} members, ${alive} ${alive === 1 ? 'node is' : 'nodes are'} connected`
    case 'syncing':
      return 'fetches the state of the ring'
    case 'minority':
      return `is cut off from the majority of its view: ${inView.filter((member) => member.alive).length} of ${inView.length} members are here`
    case 'member':
      return 'waits for the ring to settle on a view and its state'
    case 'stopped':
      return 'the ring has stopped'
  }
}
