/** Taking over a decided view, and giving one up: the only places where the agreed view changes. */
import type { Effect, MachineState } from './state.ts'
import { bootOf, EMPTY_DURABLE, isAlive, isParticipant, NO_ACCUSATIONS } from './state.ts'
import type { Proven, ViewValue } from './messages.ts'
import { closeDoorBehind } from './door.ts'
import { lengthen } from './path.ts'
import { commitStart, openTurn } from './turn.ts'

/** Installs the last view of a path that has been proven: durable first, then known to the rest of the node. */
export function adoptView(s: MachineState, news: readonly Proven[], out: Effect[]): void {
  const value = news.at(-1)?.value
  if (value === undefined) return
  stopRound(s, 'VIEW_CHANGED', `epoch ${value.epoch} was agreed`, out)
  closeDoorBehind(s, value)
  s.durable = { ...EMPTY_DURABLE, view: value, path: lengthen(s.durable.path, news) }
  s.frozen = false
  s.abandoned = false
  s.proposal = null
  s.pending = null
  s.genesis = null
  s.genesisLock = null
  s.reasonSince = null
  s.proposeAfter = s.now
  s.stalledSince = null
  s.highestBallot = 0
  s.lonelySince = null
  s.lastAhead = null
  s.adoptedAt = s.now
  s.turn = null
  s.dirty = true
  if (s.contribution !== null) s.churn += 1
  greetMembers(s, value)
  out.push({ do: 'persist', durable: s.durable, withResult: false })
  out.push({ do: 'view', value, participant: isParticipant(s) })
  commitStart(s, out)
  openTurn(s, out)
}

/** Forgets a view that lost against another ring of the same job; this node then joins the other as a newcomer. */
export function dissolveView(s: MachineState, reason: string, out: Effect[]): void {
  stopRound(s, 'VIEW_CHANGED', reason, out)
  // Under its old name it could be told of the view it has left, and vote there again without remembering how.
  s.dissolved += 1
  s.boot = `${s.options.boot}.${s.dissolved}`
  s.durable = { ...EMPTY_DURABLE, boots: [s.boot] }
  s.frozen = false
  s.abandoned = false
  s.proposal = null
  s.pending = null
  s.turn = null
  s.candidatesSince = s.now
  s.dirty = true
  out.push({ do: 'persist', durable: s.durable, withResult: false })
  out.push({ do: 'view', value: null, participant: false })
  out.push({
    do: 'log',
    level: 'warn',
    fields: { reason },
    message: 'left the ring for another of the same job',
  })
  if (s.contribution !== null) {
    out.push({ do: 'reject', round: s.contribution.round, code: 'OUT_OF_SYNC', reason })
    s.contribution = null
  }
}

/** Ends this epoch for the data plane. A computed result stays in memory: the next view may commit it. */
export function stopRound(
  s: MachineState,
  code: 'VIEW_CHANGED' | 'PEER_LOST' | 'HASH_MISMATCH',
  reason: string,
  out: Effect[],
): void {
  if (s.running) out.push({ do: 'abort-round', code, reason })
  s.running = false
}

/** Members that were never met get one timeout to show up before they are suspected. */
function greetMembers(s: MachineState, value: ViewValue): void {
  for (const member of value.members) {
    if (member.peer === s.options.self) continue
    const record = s.peers.get(member.peer)
    if (record === undefined) {
      const deadline = s.now + s.options.peerTimeoutMs
      s.peers.set(member.peer, {
        connected: false,
        deadline,
        status: null,
        accusing: NO_ACCUSATIONS,
        behind: null,
      })
    } else if (!isAlive(s, member.peer) && bootOf(s, member.peer) !== member.boot) {
      record.deadline = s.now + s.options.peerTimeoutMs
    }
    if (record !== undefined) record.accusing = NO_ACCUSATIONS
  }
}
