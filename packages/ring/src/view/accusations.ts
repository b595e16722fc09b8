/** Which members say that they cannot work with each other, and who of such a pair goes. */
import type { MachineState } from './state.ts'
import { compareText, STRIKES, unfitMembers } from './state.ts'

/**
 * Live members that some other cannot work with and that should go. Of a pair the one goes that has or had that with
 * more members; of equals the accused, of two that accuse each other the higher id; an accuser of this node itself goes,
 * as this node hears it.
 */
export function accusedMembers(s: MachineState, unfit: ReadonlySet<string>): Set<string> {
  const edges = standing(s, unfit)
  if (edges.length === 0) return new Set()
  const trouble = new Map<string, number>()
  const troubleOf = (peer: string): number => {
    const known = trouble.get(peer) ?? accusationPartners(s, peer, unfit).size
    trouble.set(peer, known)
    return known
  }
  const out = new Set<string>()
  for (const [accuser, accused] of edges) {
    if (out.has(accuser) || out.has(accused)) continue
    const mutual = edges.some(([a, b]) => a === accused && b === accuser)
    const more = troubleOf(accused) - troubleOf(accuser)
    if (accused === s.options.self) out.add(accuser)
    else if (accuser === s.options.self || more > 0) out.add(accused)
    else if (more < 0) out.add(accuser)
    else out.add(mutual && compareText(accuser, accused) > 0 ? accuser : accused)
  }
  return out
}

/** Remembers who accuses whom: one that falls out with several is the one to go. */
export function noteQuarrels(s: MachineState): void {
  for (const [a, b] of standing(s, unfitMembers(s))) {
    s.quarrels.set(a, (s.quarrels.get(a) ?? new Set()).add(b))
    s.quarrels.set(b, (s.quarrels.get(b) ?? new Set()).add(a))
  }
}

/** All members with which this one has or had trouble, by its word or theirs. */
export function accusationPartners(
  s: MachineState,
  peer: string,
  unfit: ReadonlySet<string>,
): ReadonlySet<string> {
  const partners = new Set(s.quarrels.get(peer))
  for (const member of s.durable.view?.members ?? []) {
    const other = member.peer
    if (other === peer || unfit.has(other)) continue
    if (says(s, peer, other) || says(s, other, peer)) partners.add(other)
  }
  return partners
}

/** Accusations that have stood long enough to act on, among the members that are fit. */
function standing(s: MachineState, unfit: ReadonlySet<string>): [accuser: string, accused: string][] {
  const members = (s.durable.view?.members ?? []).map((m) => m.peer).filter((peer) => !unfit.has(peer))
  const edges: [string, string][] = []
  const fit = new Set(members)
  for (const accuser of members) {
    for (const accused of accusedBy(s, accuser)) {
      if (accuser !== accused && fit.has(accused) && stands(s, accuser, accused))
        edges.push([accuser, accused])
    }
  }
  return edges
}

/** Whom a member has ever had a word against. */
function accusedBy(s: MachineState, accuser: string): Iterable<string> {
  return (accuser === s.options.self ? s.strikes : s.peers.get(accuser)?.accusing)?.keys() ?? []
}

/** Whether a member says now that it cannot work with another. */
function says(s: MachineState, accuser: string, accused: string): boolean {
  if (accuser === s.options.self) return (s.strikes.get(accused) ?? 0) >= STRIKES
  return s.peers.get(accuser)?.accusing.has(accused) ?? false
}

/** Own strikes count at once; another's word counts after it has stood for half a timeout, as links blink. */
function stands(s: MachineState, accuser: string, accused: string): boolean {
  if (!says(s, accuser, accused)) return false
  if (accuser === s.options.self) return true
  const since = s.peers.get(accuser)?.accusing.get(accused)
  return since !== undefined && s.now - since >= s.options.peerTimeoutMs / 2
}
