/** What this node tells all peers about itself: one idempotent message, sent on every change and as heartbeat. */
import type { Effect, MachineState } from './state.ts'
import { isParticipant, suspectsOf } from './state.ts'
import { viewId } from './vote.ts'
import type { Mark, StatusMessage } from './messages.ts'
import { isMinority } from './questions.ts'
import { HEARTBEATS_PER_TIMEOUT } from '../defaults.ts'

/** The status for a peer that has just connected: what was said last while that still holds, so that all share one. */
export function greeting(s: MachineState): StatusMessage {
  const message = statusOfNow(s, s.seq + 1)
  if (s.said !== null && saysTheSame(s.said, message)) return s.said
  return say(s, message)
}

function say(s: MachineState, message: StatusMessage): StatusMessage {
  s.seq = message.seq
  s.said = message
  return message
}

function statusOfNow(s: MachineState, seq: number): StatusMessage {
  const view = s.durable.view
  return {
    t: 'status',
    seq,
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

/** Whether two statuses of a peer differ in nothing but their number. */
export function saysTheSame(a: StatusMessage, b: StatusMessage): boolean {
  const facts = a.boot === b.boot && a.ringId === b.ringId && a.epoch === b.epoch && a.viewId === b.viewId
  const flags = a.active === b.active && a.leaving === b.leaving && a.abandoned === b.abandoned
  if (!facts || !flags || !isSameMark(a.state, b.state) || !isSameMark(a.committed, b.committed)) return false
  if (a.suspects.length !== b.suspects.length || !a.suspects.every((peer, i) => peer === b.suspects[i]))
    return false
  const [x, y] = [a.turn, b.turn]
  if (x === null || y === null) return x === y
  const progress =
    x.done === y.done && x.prepared === y.prepared && x.epoch === y.epoch && x.round === y.round
  const shape = x.length === y.length && x.weight === y.weight && x.wire === y.wire && x.state === y.state
  return progress && shape && x.commitment === y.commitment
}

function isSameMark(a: Mark | null, b: Mark | null): boolean {
  return a?.round === b?.round && a?.hash === b?.hash
}

/** Sends the status to everybody connected when it changed or a heartbeat is due. */
export function flushStatus(s: MachineState, out: Effect[]): void {
  if (s.options.observer || (!s.dirty && s.now < s.nextStatusAt)) return
  s.dirty = false
  s.nextStatusAt = s.now + s.options.peerTimeoutMs / HEARTBEATS_PER_TIMEOUT
  const message = say(s, statusOfNow(s, s.seq + 1))
  for (const [peer, record] of s.peers) {
    if (record.connected) out.push({ do: 'send', to: peer, message })
  }
}
