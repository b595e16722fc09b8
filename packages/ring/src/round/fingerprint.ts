/**
 * Fingerprints of segments: GMAC (NIST SP 800-38D) under a key of this round alone, some twenty times faster than
 * SHA3-256. Who knows the key beforehand can make two segments with one fingerprint: under a key that is public
 * (`sealed`) it tells honest members that they differ; under one that nobody knew while the bytes could still change
 * (`signed`) it binds everybody, since two different segments then agree with a chance under 2^-100.
 */
import { createCipheriv, createSecretKey, type CipherGCM } from 'node:crypto'
import { sha3_256 } from '@gym-node/wire'
import type { Contribution, View } from '../types.ts'

/** Bytes per call: large enough to amortise it, short enough that the event loop gets its turn. */
const STEP_BYTES = 8 * 1024 * 1024

/** Everything that members agree on about a round before its first byte is summed. */
export interface RoundFacts {
  readonly view: View
  readonly round: number
  readonly totalWeight: number
  readonly contributions: readonly Contribution[]
}

/** SHA3-256 of the facts: no two attempts of any round of any ring share one, since each has an epoch of its own. */
export function hashFacts({ view, round, totalWeight, contributions }: RoundFacts): Uint8Array {
  const { ringId, epoch, members } = view
  const about = [ringId, epoch, members, round, totalWeight, plainContributions(contributions)]
  return sha3_256(new TextEncoder().encode(JSON.stringify(about)))
}

/** Contributions as plain JSON values. */
export function plainContributions(contributions: readonly Contribution[]): object[] {
  return contributions.map(({ peerId, weight, commitment }) => ({
    peerId,
    weight,
    commitment: commitment === null ? null : Buffer.from(commitment).toString('hex'),
  }))
}

/** Names a result: what was agreed on beforehand, the key, and each segment's fingerprint under it. */
export function nameResult(facts: Uint8Array, key: Uint8Array, tags: readonly Uint8Array[]): Uint8Array {
  return sha3_256(facts, key, ...tags)
}

/** Takes the bytes of every segment, each in order, segments in any; gives one tag a segment. */
export class Fingerprints {
  readonly #macs: CipherGCM[]

  constructor(key: Uint8Array, segments: number) {
    // From bytes Node would make one for every cipher, and an error with its stack besides.
    const keyObject = createSecretKey(key)
    this.#macs = Array.from({ length: segments }, (_, segment) => {
      const nonce = new Uint8Array(12)
      new DataView(nonce.buffer).setUint32(0, segment)
      return createCipheriv('aes-256-gcm', keyObject, nonce)
    })
  }

  add(segment: number, bytes: Uint8Array): void {
    if (bytes.byteLength > 0) this.#macs[segment].setAAD(bytes)
  }

  /** The tags in the order of segments. Call once. */
  finish(): Uint8Array[] {
    return this.#macs.map((mac) => {
      mac.final()
      return new Uint8Array(mac.getAuthTag())
    })
  }
}

/** The fingerprint of one segment that is all here; other work gets its turn between steps. */
export async function fingerprint(key: Uint8Array, segment: number, bytes: Uint8Array): Promise<Uint8Array> {
  const one = new Fingerprints(key, segment + 1)
  for (let at = 0; at < bytes.byteLength; at += STEP_BYTES) {
    if (at > 0) await new Promise(setImmediate)
    one.add(segment, bytes.subarray(at, at + STEP_BYTES))
  }
  return one.finish()[segment]
}
