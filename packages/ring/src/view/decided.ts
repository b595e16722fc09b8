/** News of a decided view: who has to prove what before this node takes it over. */
import type { Effect, MachineState } from './state.ts'
import { isAcceptor, isAlive, isParticipant, quorumOf, statusOf } from './state.ts'
import { adoptView } from './adopt.ts'
import { isConsistent, isProvenFrom } from './certificate.ts'
import { isLonely } from './merge.ts'
import { MAX_BOOTS, type Member, type Proven, type ViewValue } from './messages.ts'
import { isCredible } from './trust.ts'
import { viewId } from './vote.ts'

/**
 * A decided view is taken over from anybody who proves it: by votes of the members of this node's view, or through views
 * between. A node in no view, and one that its own ring has left without a quorum for long, can check less (trust.ts).
 */
export function onDecided(s: MachineState, from: string, path: readonly Proven[], out: Effect[]): void {
  const view = s.durable.view
  const value = path.at(-1)?.value
  if (value === undefined) return
  if (view === null) {
    if (!s.leaving && mayEnter(s, path, value)) adoptView(s, path, out)
    return
  }
  if (value.ringId !== view.ringId || value.epoch <= view.epoch) return
  if (s.options.quorum === 'any') {
    // Two halves decide apart there, and no votes lead from one to the other: a member's word is enough.
    if (isAcceptor(s, from) || !hasQuorumHere(s, view)) adoptView(s, path, out)
    return
  }
  if (isProvenFrom(s, view, path) || (isLonely(s) && isCredible(s, path))) adoptView(s, path, out)
}

/**
 * A node in no view remembers the processes that it has been, before it says who it is: a view may name one of them, and
 * then needs this node's vote.
 */
export function noteBoot(s: MachineState, out: Effect[]): void {
  const { view, boots } = s.durable
  if (view !== null || boots.includes(s.boot)) return
  s.durable = { ...s.durable, boots: [...boots, s.boot].slice(-MAX_BOOTS) }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
}

/**
 * Whether a node in no view may be in this one: it is named, by a process that it has been since it was last in a view, so
 * that it cannot have voted there, or as a founder.
 */
function mayEnter(s: MachineState, path: readonly Proven[], value: ViewValue): boolean {
  const founded = s.durable.invited.find(({ ringId }) => ringId === value.ringId)
  const { self, quorum } = s.options
  const isNamed = ({ peer, boot }: Member): boolean =>
    peer === self && (s.durable.boots.includes(boot) || founded !== undefined)
  if (!value.members.some(isNamed)) return false
  // All have signed a founding, this node among them.
  if (value.epoch === 1 || quorum === 'any') return isConsistent(s, path)
  return (founded !== undefined && isProvenFrom(s, founded, path)) || isCredible(s, path)
}

/** Since when this node is without a quorum of its view that is in it too, or outside the view. */
export function noteLoneliness(s: MachineState): void {
  const { view } = s.durable
  if (view === null || (isParticipant(s) && hasQuorumHere(s, view))) s.lonelySince = null
  else s.lonelySince ??= s.now
}

function hasQuorumHere(s: MachineState, view: ViewValue): boolean {
  const isAny = s.options.quorum === 'any'
  const here = view.members.filter(({ peer }) => {
    if (peer === s.options.self) return true
    const status = statusOf(s, peer)
    if (status?.ringId !== view.ringId || !isAlive(s, peer)) return false
    return isAny || (status.epoch === view.epoch && status.viewId === viewId(view))
  })
  return here.length >= (isAny ? 2 : quorumOf(s, view.members.length))
}
