/** SHA3-256 (FIPS 202), the one hash that files, states and transcripts are named by. Native: see DESIGN on its cost. */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'

/** Bytes of a SHA3-256 digest. */
export const SHA3_256_BYTES = 32

/** SHA3-256 of the parts one after another, as if they were one buffer. Returns 32 fresh bytes. */
export function sha3_256(...parts: Uint8Array[]): Uint8Array {
  const hash = sha3_256Stream()
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** An incremental SHA3-256: `update` any number of times, then `digest` once. */
export function sha3_256Stream(): Hash {
  return createHash('sha3-256')
}
