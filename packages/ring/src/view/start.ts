/**
 * Where a new view may start. A member of the old one knows by itself within one round which rounds it can have
 * committed, as nothing commits there without it: it says what no honest proposer would propose.
 */
import type { MachineState, Proposal } from './state.ts'
import { reachedRound } from './state.ts'
import type { Mark, Promised, Start, ViewValue } from './messages.ts'

/**
 * The newest round that any promiser has reached, has prepared, or knows from the start of its own view counts as
 * committed. A prepared round can only be dropped when every member has promised and none holds its result: then
 * nobody has committed it, or whoever did has lost it too.
 */
export function chooseStart(s: MachineState, p: Proposal, view: ViewValue): Start | 'wait' {
  const chosen = newestReported(s, p, view)
  const { computed } = s.durable
  if (chosen === 'wait' || chosen.result !== null || computed?.round !== chosen.round) return chosen
  // What anybody has committed of this view, all of it have computed.
  return { round: chosen.round, result: computed.hash }
}

function newestReported(s: MachineState, p: Proposal, view: ViewValue): Start | 'wait' {
  const promises = [...p.promises.values()]
  let prepared: Mark | null = null
  let known: Start = { round: 0, result: null }
  for (const promise of promises) {
    if (promise.prepared !== null && promise.prepared.round > (prepared?.round ?? 0))
      prepared = promise.prepared
    if (promise.reached > known.round) known = { round: promise.reached, result: null }
    if (promise.start.round > known.round) known = promise.start
    if (promise.start.round === known.round && promise.start.result !== null) known = promise.start
  }
  if (prepared === null || prepared.round < known.round) return known
  const { round, hash } = prepared
  const isHeld = promises.some((m) => m.reached >= round || (m.held?.round === round && m.held.hash === hash))
  if (isHeld || round === known.round) return { round, result: hash }
  const everybody = view.members.every((member) => p.promises.has(member.peer))
  return everybody || s.options.quorum === 'any' ? known : 'wait'
}

/** Whether a view may start there: no round that this node knows to be committed is lost, none invented. */
export function mayStartAt(s: MachineState, start: Start): boolean {
  const view = s.durable.view
  if (view === null || start.round < Math.max(reachedRound(s), view.start.round)) return false
  const { prepared } = s.durable
  const holdsPrepared = prepared !== null && s.held?.round === prepared.round && s.held.hash === prepared.hash
  if (prepared !== null && holdsPrepared && start.round < prepared.round) return false
  // A round beyond what this node knows has a name: whoever proposes it has computed it too.
  if (start.round > newestKnown(s, view) && start.result === null) return false
  return mayBeCommitted(s, view, start)
}

/**
 * Whether what a promise reports can be true. Each member takes part in each round, so the ring is at most one ahead of
 * what this one knows, and then by a round that it has computed too.
 */
export function isPlausible(s: MachineState, report: Promised): boolean {
  const view = s.durable.view
  if (view === null) return false
  const { prepared, reached, start } = report
  const isStart = start.round === view.start.round && start.result === view.start.result
  if (!isStart || !mayBeCommitted(s, view, { round: reached, result: null })) return false
  return prepared === null || mayBeCommitted(s, view, { round: prepared.round, result: prepared.hash })
}

function mayBeCommitted(s: MachineState, view: ViewValue, { round, result }: Start): boolean {
  const { prepared, computed } = s.durable
  if (prepared?.round === round) return result === null || result === prepared.hash
  if (round === view.start.round) return result === null || result === view.start.result
  if (round <= newestKnown(s, view)) return true
  return computed?.round === round && (result === null || result === computed.hash)
}

/** The newest round that this node knows to be committed, or has prepared, or that one it has computed came after. */
function newestKnown(s: MachineState, view: ViewValue): number {
  const { prepared, computed } = s.durable
  const before = (computed?.round ?? 0) - 1
  return Math.max(reachedRound(s), view.start.round, prepared?.round ?? 0, before)
}
