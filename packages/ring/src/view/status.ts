/** What this node tells all peers about itself: one idempotent message, sent on every change and as heartbeat. */
import type { Effect, MachineState } from './state.ts'
import { isParticipant, suspectsOf, viewId } from './state.ts'
import type { StatusMessage } from './messages.ts'
import { isMinority } from './questions.ts'
import { HEARTBEATS_PER_TIMEOUT } from '../defaults.ts'

/** Builds the status message of this moment; takes the next sequence number. */
export function buildStatus(s: MachineState): StatusMessage {
  const view = s.durable.view
  s.seq += 1
  return {
    t: 'status',
    seq: s.seq,
    boot: s.boot,
    ringId: view?.ringId ?? null,
    epoch: view?.epoch ?? 0,
    viewId: view === null ? null : viewId(view),
    active: isParticipant(s) && !isMinority(s),
    leaving: s.leaving,
    state: s.state,
    committed: s.committed,
    suspects: suspectsOf(s),
    abandoned: s.abandoned,
    turn: s.turn,
  }
}

/** Sends the status to everybody connected when it changed or a heartbeat is due. */
export function flushStatus(s: MachineState, out: Effect[]): void {
  if (s.options.observer || (!s.dirty && s.now < s.nextStatusAt)) return
  s.dirty = false
  s.nextStatusAt = s.now + s.options.peerTimeoutMs / HEARTBEATS_PER_TIMEOUT
  const message = buildStatus(s)
  for (const [peer, record] of s.peers) {
    if (record.connected) out.push({ do: 'send', to: peer, message })
  }
}
