/** The result of a round between being computed and being committed, and how it is stored. */
import { z } from 'zod'
import { sha3_256 } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import { Fingerprints, plainContributions, type RoundFacts } from './fingerprint.ts'

/** A result that may yet be committed. */
export interface HeldResult extends RoundFacts {
  readonly mean: Float32Array
  /** names the result: `nameResult` */
  readonly hash: Uint8Array
}

const headSchema = z.strictObject({
  round: z.number().int().min(0),
  totalWeight: z.number(),
  view: z.strictObject({ ringId: z.string(), epoch: z.number().int(), members: z.array(z.string()) }),
  contributions: z.array(
    z.strictObject({ peerId: z.string(), weight: z.number(), commitment: z.string().nullable() }),
  ),
  hash: z.string(),
  check: z.string(),
})

/** Bytes per call: well under what one call may take. */
const CHECK_STEP_BYTES = 64 * 1024 * 1024

/** u32 length, JSON head, float32 values, little-endian. */
export function encodeHeld(held: HeldResult): Uint8Array {
  const { round, totalWeight, view } = held
  const hash = Buffer.from(held.hash).toString('hex')
  const contributions = plainContributions(held.contributions)
  const about = { round, totalWeight, view, contributions, hash }
  const check = checkOf(about, bytesOf(held.mean))
  const head = new TextEncoder().encode(JSON.stringify({ ...about, check }))
  const bytes = new Uint8Array(4 + head.byteLength + held.mean.byteLength)
  new DataView(bytes.buffer).setUint32(0, head.byteLength, true)
  bytes.set(head, 4)
  bytes.set(bytesOf(held.mean), 4 + head.byteLength)
  return bytes
}

/** Reads a stored result and checks that it is what was stored. Throws RingError BAD_STORE. */
export function decodeHeld(bytes: Uint8Array): HeldResult {
  try {
    const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
    const head = headSchema.parse(JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))))
    const mean = new Float32Array(new Uint8Array(bytes.subarray(4 + length)).buffer)
    const contributions = head.contributions.map(({ peerId, weight, commitment }) => ({
      peerId,
      weight,
      commitment: commitment === null ? null : new Uint8Array(Buffer.from(commitment, 'hex')),
    }))
    const { check, ...about } = head
    if (checkOf(about, bytesOf(mean)) !== check) throw new Error('its bytes are not those that were stored')
    const { round, totalWeight, view } = head
    return {
      round,
      totalWeight,
      view,
      contributions,
      mean,
      hash: new Uint8Array(Buffer.from(head.hash, 'hex')),
    }
  } catch (cause) {
    throw new RingError(
      'BAD_STORE',
      `the stored result of ${bytes.byteLength} bytes cannot be read; remove it`,
      {
        cause,
      },
    )
  }
}

/** Tells a file that a disk has spoilt; nobody else can write it. */
function checkOf(about: object, values: Uint8Array): string {
  const mac = new Fingerprints(sha3_256(new TextEncoder().encode(JSON.stringify(about))), 1)
  for (let at = 0; at < values.byteLength; at += CHECK_STEP_BYTES) {
    mac.add(0, values.subarray(at, at + CHECK_STEP_BYTES))
  }
  return Buffer.from(mac.finish()[0]).toString('hex')
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
