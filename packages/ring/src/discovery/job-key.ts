/** The place in the DHT where the peers of a job meet. Pure. */
import { createHash } from 'node:crypto'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'

const RAW = 0x55
const SHA2_256 = 0x12

/** Names the record and its version, so that no other use of the DHT can have the same key. */
const DOMAIN = 'gym-node rendezvous v1\0'

/** The CID (version 1, raw, SHA2-256) under which members of `job` announce themselves. */
export function jobKey(job: string): CID {
  const digest = createHash('sha256').update(DOMAIN).update(job, 'utf8').digest()
  return CID.createV1(RAW, create(SHA2_256, digest))
}
