/**
 * What a node believes that cannot check a proof because it knows none of the voters: a newcomer, or one that its ring has
 * left behind for long. It goes by the peers that it hears itself, so that a liar counts for one.
 */
import type { MachineState } from './state.ts'
import { isAlive } from './state.ts'
import { isConsistent } from './certificate.ts'
import type { Proven } from './messages.ts'
import { viewId } from './vote.ts'

/**
 * Whether the last view of `path` may be taken over on trust: its votes are right, and at least as many peers say that
 * they are in it, or in the one before, as say that they take part elsewhere (this node in its own view among them).
 */
export function isCredible(s: MachineState, path: readonly Proven[]): boolean {
  const ids = new Set(path.slice(-2).map(({ value }) => viewId(value)))
  const ringId = path.at(-1)?.value.ringId
  let there = 0
  let elsewhere = s.durable.view === null ? 0 : 1
  for (const [peer, { status }] of s.peers) {
    if (status === null || status.viewId === null || !isAlive(s, peer)) continue
    if (status.ringId === ringId && ids.has(status.viewId)) there += 1
    else if (status.active) elsewhere += 1
  }
  return there >= Math.max(1, elsewhere) && isConsistent(s, path)
}
