/** The seed of a worker's data order and samples, derived from its identity so that nobody chooses it. Pure. */

import { sha3_256 } from '@gym-node/wire'

/** First four bytes, little-endian, of SHA3-256 over a label and the peer id. */
export function workerSeed(peerId: string): number {
  return Buffer.from(sha3_256(Buffer.from(`gym-seed-v1\0${peerId}`))).readUInt32LE(0)
}
