/**
 * The first view of a ring. Genesis needs the signed word of every member it names, who are the ring's name; a node that
 * has heard of a living ring joins that one instead.
 */
import { createHash } from 'node:crypto'
import type { Effect, MachineState } from './state.ts'
import { compareText, isAlive } from './state.ts'
import { MAX_INVITED, type Member, type ViewMessage, type ViewMessageOf, type ViewValue } from './messages.ts'
import { adoptView } from './adopt.ts'
import { certify, genesisBallot, isVote, signVote } from './certificate.ts'
import type { Question } from './vote.ts'

/** Remains of an old ring that cannot form again hold up a genesis among newcomers this many peer timeouts. */
const OLD_RING_TIMEOUTS = 4

/** Proposes epoch 1 when this node is the lowest of enough peers that know no ring. */
export function considerGenesis(s: MachineState, out: Effect[]): void {
  if (s.durable.view !== null || s.leaving || s.options.observer) return
  if (s.genesis !== null && s.now < s.genesis.retryAt) return
  if (s.genesis !== null) {
    s.genesis = null
    s.candidatesSince = s.now
  }
  const members = candidates(s)
  const key = members.map((member) => `${member.peer} ${member.boot}`).join()
  if (key !== s.candidates) {
    s.candidates = key
    s.candidatesSince = s.now
  }
  if (members.length < s.options.minMembers || members[0]?.peer !== s.options.self) return
  if (s.now - s.candidatesSince < s.options.genesisSettleMs || knowsARing(s) || isLocked(s, s.options.self))
    return
  const value: ViewValue = {
    ringId: nameRing(s.options.job, members),
    epoch: 1,
    members,
    start: { round: 0, result: null },
  }
  const own = signVote(s, foundingOf(s, value))
  s.genesis = { value, acks: new Map([[s.options.self, own]]), retryAt: s.now + s.options.peerTimeoutMs / 2 }
  s.genesisLock = { ringId: value.ringId, proposer: s.options.self, until: s.genesis.retryAt }
  for (const member of members) {
    if (member.peer !== s.options.self)
      out.push({ do: 'send', to: member.peer, message: { t: 'genesis', value } })
  }
  decideGenesis(s, out)
}

/** Answers another node's genesis. An accepted one locks this node for a timeout, so that it joins only one. */
export function onGenesis(s: MachineState, from: string, m: ViewMessageOf<'genesis'>, out: Effect[]): void {
  const { value } = m
  const named = (peer: string, boot: string | null): boolean =>
    value.members.some((member) => member.peer === peer && (boot === null || member.boot === boot))
  const yields = s.genesis !== null && compareText(from, s.options.self) < 0
  const free = !s.options.observer && s.durable.view === null && !s.leaving && !knowsARing(s)
  const isFounding = value.epoch === 1 && value.start.round === 0 && value.start.result === null
  const isNamed = value.ringId === nameRing(s.options.job, value.members)
  const fits = isFounding && isNamed && named(s.options.self, s.boot) && named(from, null)
  if (!free || !fits || (isLocked(s, from) && !yields)) {
    out.push({ do: 'send', to: from, message: { t: 'genesis-nack', ringId: value.ringId } })
    return
  }
  s.genesis = null
  s.genesisLock = { ringId: value.ringId, proposer: from, until: s.now + s.options.peerTimeoutMs }
  rememberInvitation(s, value, out)
  const signature = Buffer.from(signVote(s, foundingOf(s, value))).toString('base64')
  out.push({ do: 'send', to: from, message: { t: 'genesis-ack', ringId: value.ringId, signature } })
}

/** Counts acceptances; the last one makes the ring. */
export function onGenesisAck(
  s: MachineState,
  from: string,
  m: ViewMessageOf<'genesis-ack'>,
  out: Effect[],
): void {
  if (s.genesis?.value.ringId !== m.ringId) return
  const signature = Buffer.from(m.signature, 'base64')
  if (!isVote(s, foundingOf(s, s.genesis.value), from, signature)) return
  s.genesis.acks.set(from, signature)
  decideGenesis(s, out)
}

/** One refusal of a node that it names ends this try. */
export function onGenesisNack(s: MachineState, from: string, m: ViewMessageOf<'genesis-nack'>): void {
  if (s.genesis?.value.ringId !== m.ringId || !s.genesis.value.members.some(({ peer }) => peer === from))
    return
  s.genesis = null
  s.genesisLock = null
  s.candidatesSince = s.now
}

function decideGenesis(s: MachineState, out: Effect[]): void {
  const genesis = s.genesis
  if (genesis === null || !genesis.value.members.every((member) => genesis.acks.has(member.peer))) return
  const { value } = genesis
  const path = [{ value, certificate: certify(foundingOf(s, value), genesis.acks) }]
  adoptView(s, path, out)
  const message: ViewMessage = { t: 'decided', path }
  for (const [peer, record] of s.peers) {
    if (record.connected) out.push({ do: 'send', to: peer, message })
  }
}

/**
 * Durable before the acceptance is said: the ring may be founded by it, and if this process dies before it hears so, the
 * others may be too few to go on without its vote. It has none to forget, as it has never been in that ring.
 */
function rememberInvitation(s: MachineState, value: ViewValue, out: Effect[]): void {
  const others = s.durable.invited.filter(({ ringId }) => ringId !== value.ringId)
  s.durable = { ...s.durable, invited: [...others, value].slice(-MAX_INVITED) }
  out.push({ do: 'persist', durable: s.durable, withResult: false })
}

function candidates(s: MachineState): Member[] {
  const members: Member[] = [{ peer: s.options.self, boot: s.boot }]
  for (const [peer, record] of s.peers) {
    if (!record.connected || record.status === null || !isAlive(s, peer)) continue
    if (record.status.ringId === null && !record.status.leaving)
      members.push({ peer, boot: record.status.boot })
  }
  members.sort((a, b) => compareText(a.peer, b.peer))
  return members.slice(0, s.options.maxMembers)
}

function knowsARing(s: MachineState): boolean {
  const patience = s.now - s.candidatesSince < OLD_RING_TIMEOUTS * s.options.peerTimeoutMs
  return [...s.peers.values()].some(
    (record) =>
      record.status !== null &&
      record.status.ringId !== null &&
      s.now < record.deadline &&
      (record.status.active || patience),
  )
}

/** Locked by somebody else: a proposer that asks again has given its earlier genesis up. */
function isLocked(s: MachineState, except: string): boolean {
  return s.genesisLock !== null && s.now < s.genesisLock.until && s.genesisLock.proposer !== except
}

/** A ring is named by its founders, so that nobody can pass another founding off as it. */
function nameRing(job: string, members: readonly Member[]): string {
  const text = JSON.stringify([job, members.map((m) => [m.peer, m.boot])])
  return createHash('sha3-256').update(text).digest('hex').slice(0, 32)
}

/** What its founders sign. */
function foundingOf(s: MachineState, value: ViewValue): Question {
  return { kind: 'genesis', job: s.options.job, before: null, ballot: genesisBallot(value), value }
}
