/**
 * One round inside one epoch: everybody's turn is collected, the data plane runs, the result's hash is agreed in two
 * steps. `prepared` means: all members of the view hold this result. A quorum of prepared members commits.
 */
import type { Effect, MachineState } from './state.ts'
import { isAlive, isParticipant, memberStatus, quorumOf, reachedRound, statusOf, STRIKES } from './state.ts'
import type { Mark, Member, Turn } from './messages.ts'
import { plurality } from './questions.ts'

/** Starts this epoch's turn from the pending contribution, when there is one and the epoch still takes turns. */
export function openTurn(s: MachineState, out: Effect[]): void {
  const view = s.durable.view
  const c = s.contribution
  if (view === null || c === null || s.frozen || s.abandoned || s.turn !== null || !isParticipant(s)) return
  if (c.round <= view.start.round) {
    const reason = `epoch ${view.epoch} starts after round ${view.start.round}, this contribution is for ${c.round}`
    rejectContribution(s, 'ROUND_SUPERSEDED', reason, out)
    return
  }
  s.turn = { epoch: view.epoch, ...c, done: null, prepared: false }
  s.stalledSince = null
  s.dirty = true
}

/** Moves this node's turn as far as the statuses of the others allow. */
export function advanceTurn(s: MachineState, out: Effect[]): void {
  noticeSuperseded(s, out)
  const view = s.durable.view
  if (view === null || s.turn === null || s.frozen || s.abandoned) return
  if (s.turn.done === null) {
    startWhenAllAreHere(s, s.turn, view.members, out)
    return
  }
  if (!s.turn.prepared) prepareWhenAllAgree(s, s.turn, s.turn.done, view.members, out)
  if (s.turn !== null) commitWhenQuorumPrepared(s, s.turn, view.members, out)
}

/** Commits the result held in memory if it is the one named. */
export function commitHeld(s: MachineState, mark: Mark, out: Effect[]): void {
  if (s.contribution?.round !== mark.round || s.held === null) return
  if (s.held.round !== mark.round || s.held.hash !== mark.hash) return
  s.committed = mark
  s.contribution = null
  s.turn = null
  s.held = null
  s.churn = 0
  s.strikes.clear()
  s.dirty = true
  out.push({ do: 'commit', round: mark.round, hash: mark.hash })
}

/** Commits the round that this view starts from, if its result is held here and its caller is waiting. */
export function commitStart(s: MachineState, out: Effect[]): void {
  const start = s.durable.view?.start
  if (start?.result != null) commitHeld(s, { round: start.round, hash: start.result }, out)
}

/** Gives up the round of this epoch; the leader will propose a view with new keys. */
export function abandonRound(
  s: MachineState,
  code: 'HASH_MISMATCH' | 'PEER_LOST',
  reason: string,
  out: Effect[],
): void {
  if (s.running) out.push({ do: 'abort-round', code, reason })
  s.running = false
  s.abandoned = true
  s.turn = null
  s.dirty = true
  out.push({ do: 'log', level: 'warn', fields: { code, reason }, message: 'round abandoned' })
}

/** A round that others committed is either the result held here, or one this node has missed. */
function noticeSuperseded(s: MachineState, out: Effect[]): void {
  const view = s.durable.view
  if (view === null || s.contribution === null) return
  const round = s.contribution.round
  for (const peer of s.peers.keys()) {
    const status = statusOf(s, peer)
    if (status === null || status.ringId !== view.ringId || !status.active || reachedRound(status) < round)
      continue
    const mark = status.committed
    if (mark !== null && mark.round === round && mark.hash === s.held?.hash) {
      // One member's word is not enough; if it is true, others say so soon, or the next view starts from there.
      if (isVouchedFor(s, mark)) commitHeld(s, mark, out)
      if (s.contribution === null) return
      continue
    }
    // A member that prepared here may be among the majority that committed; the state settles it either way.
    const reason = `the ring has reached round ${reachedRound(status)} without this node's round ${round}`
    rejectContribution(s, 'ROUND_SUPERSEDED', reason, out)
    return
  }
}

/** Whether a quorum of the view says that this round was committed so, or that they are prepared to. */
function isVouchedFor(s: MachineState, { round, hash }: Mark): boolean {
  const members = s.durable.view?.members ?? []
  const own = s.durable.prepared
  const vouching = members.filter(({ peer }) => {
    if (peer === s.options.self) return own?.round === round && own.hash === hash
    const status = statusOf(s, peer)
    if (status?.ringId !== s.durable.view?.ringId || status === null) return false
    const { committed, turn } = status
    if (committed?.round === round && committed.hash === hash) return true
    return turn?.round === round && turn.prepared && turn.done === hash
  })
  return vouching.length >= quorumOf(s, members.length)
}

function startWhenAllAreHere(s: MachineState, own: Turn, members: readonly Member[], out: Effect[]): void {
  if (s.running) return
  const turns = members.map((member) => turnOf(s, member))
  const present = turns.filter((turn) => turn !== null)
  if (present.length < members.length) {
    strikeStragglers(s, members, turns)
    return
  }
  s.stalledSince = null
  const newest = Math.max(...present.map((turn) => turn.round))
  if (own.round < newest) {
    rejectContribution(s, 'OUT_OF_SYNC', `this node is at round ${own.round}, the ring at ${newest}`, out)
    return
  }
  if (present.some((turn) => turn.round !== newest)) return
  const vote = (key: (turn: Turn) => string): string | null =>
    plurality(members.map((member, i) => ({ peer: member.peer, key: key(present[i]) })))
  const shape = (turn: Turn): string => `${turn.length} elements as ${turn.wire}`
  if (vote(shape) !== shape(own)) {
    rejectContribution(
      s,
      'LENGTH_MISMATCH',
      `this vector is ${shape(own)}, the ring's ${vote(shape) ?? ''}`,
      out,
    )
    return
  }
  if (vote((turn) => turn.state) !== own.state) {
    rejectContribution(
      s,
      'OUT_OF_SYNC',
      `this node's state differs from the ring's at round ${own.round - 1}`,
      out,
    )
    return
  }
  if (present.some((turn) => turn.state !== own.state || shape(turn) !== shape(own))) return
  s.running = true
  out.push({ do: 'start-round', epoch: own.epoch, round: own.round, turns: present })
}

function prepareWhenAllAgree(
  s: MachineState,
  own: Turn,
  done: string,
  members: readonly Member[],
  out: Effect[],
): void {
  const results = members.map((member) => doneOf(s, member, own.round))
  if (results.some((result) => result !== null && result !== done)) {
    abandonRound(s, 'HASH_MISMATCH', `results of round ${own.round} differ between members`, out)
    return
  }
  if (!results.every((result) => result === done)) return
  s.durable = { ...s.durable, prepared: { round: own.round, hash: done } }
  s.turn = { ...own, prepared: true }
  s.dirty = true
  out.push({ do: 'persist', durable: s.durable, withResult: false })
}

function commitWhenQuorumPrepared(
  s: MachineState,
  own: Turn,
  members: readonly Member[],
  out: Effect[],
): void {
  if (own.done === null || !own.prepared) return
  const prepared = members.filter((member) => {
    const turn = turnOf(s, member)
    if (turn?.round === own.round) return turn.prepared && turn.done === own.done
    return doneOf(s, member, own.round) === own.done
  })
  if (prepared.length >= quorumOf(s, members.length)) commitHeld(s, { round: own.round, hash: own.done }, out)
}

/** After a long wait a majority stops waiting for the few that have not come. */
function strikeStragglers(
  s: MachineState,
  members: readonly Member[],
  turns: readonly (Turn | null)[],
): void {
  const here = turns.filter((turn) => turn !== null).length
  if (here < quorumOf(s, members.length)) {
    s.stalledSince = null
    return
  }
  s.stalledSince ??= s.now
  if (s.now - s.stalledSince < s.options.stragglerMs) return
  members.forEach((member, i) => {
    if (turns[i] === null && isAlive(s, member.peer)) s.strikes.set(member.peer, STRIKES)
  })
  s.dirty = true
}

function turnOf(s: MachineState, member: Member): Turn | null {
  if (member.peer === s.options.self) return s.turn
  const turn = memberStatus(s, member)?.turn ?? null
  return turn !== null && turn.epoch === s.durable.view?.epoch ? turn : null
}

/** The result that a member has said it has of a round; one that has committed it and gone on said it before. */
function doneOf(s: MachineState, member: Member, round: number): string | null {
  const turn = turnOf(s, member)
  if (turn?.round === round) return turn.done
  const committed = member.peer === s.options.self ? null : (memberStatus(s, member)?.committed ?? null)
  return committed?.round === round ? committed.hash : null
}

function rejectContribution(
  s: MachineState,
  code: 'ROUND_SUPERSEDED' | 'OUT_OF_SYNC' | 'LENGTH_MISMATCH',
  reason: string,
  out: Effect[],
): void {
  if (s.contribution === null) return
  if (s.running) out.push({ do: 'abort-round', code: 'VIEW_CHANGED', reason })
  out.push({ do: 'reject', round: s.contribution.round, code, reason })
  s.running = false
  s.contribution = null
  s.turn = null
  s.dirty = true
}
