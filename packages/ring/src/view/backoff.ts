/** How rival proposers get out of each other's way: waits that differ between nodes and ballots, without randomness. */
import { createHash } from 'node:crypto'
import type { Ballot } from './messages.ts'
import type { MachineState } from './state.ts'

/** Leaves another proposer the floor for a while. */
export function standBack(s: MachineState): void {
  const ballot = { n: s.highestBallot, peer: s.options.self }
  s.proposeAfter = s.now + (s.options.peerTimeoutMs / 4) * (1 + 3 * jitter(ballot))
}

/** A number in [0, 1) that differs between proposers and ballots, so that duels end. */
export function jitter(ballot: Ballot): number {
  return createHash('sha3-256').update(`${ballot.n} ${ballot.peer}`).digest().readUInt16BE(0) / 65_536
}
