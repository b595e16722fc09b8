/** The result of a round between being computed and being committed: how it is named, and how it is stored. */
import { createCipheriv } from 'node:crypto'
import { z } from 'zod'
import { sha3_256 } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { Contribution, View } from '../types.ts'

/** A result that may yet be committed. */
export interface HeldResult {
  readonly round: number
  readonly mean: Float32Array
  readonly hash: Uint8Array
  readonly totalWeight: number
  readonly view: View
  readonly contributions: readonly Contribution[]
}

const headSchema = z.strictObject({
  round: z.number().int().min(0),
  totalWeight: z.number(),
  view: z.strictObject({ ringId: z.string(), epoch: z.number().int(), members: z.array(z.string()) }),
  contributions: z.array(
    z.strictObject({ peerId: z.string(), weight: z.number(), commitment: z.string().nullable() }),
  ),
  hash: z.string(),
})

/** Bytes per call into the digest: large enough to amortise it, well under what one call may take. */
const DIGEST_STEP = 8 * 1024 * 1024

/**
 * Names a result: the bytes, and everything that all members must agree on about them. The bytes go through GMAC under
 * a key that only this round has, 20 times faster than SHA3-256: it tells honest members that they differ. It is no
 * proof towards a member that lies; every hop is already authenticated by its seal.
 */
export function nameResult(result: Omit<HeldResult, 'hash'>): Uint8Array {
  const { ringId, epoch, members } = result.view
  const about = new TextEncoder().encode(
    JSON.stringify([ringId, epoch, members, result.round, result.totalWeight, plain(result.contributions)]),
  )
  const mac = createCipheriv('aes-256-gcm', sha3_256(about), new Uint8Array(12))
  const bytes = bytesOf(result.mean)
  for (let at = 0; at < bytes.byteLength; at += DIGEST_STEP) mac.setAAD(bytes.subarray(at, at + DIGEST_STEP))
  mac.final()
  return sha3_256(about, mac.getAuthTag())
}

/** u32 length, JSON head, float32 values, little-endian. */
export function encodeHeld(held: HeldResult): Uint8Array {
  const { round, totalWeight, view } = held
  const hash = Buffer.from(held.hash).toString('hex')
  const contributions = plain(held.contributions)
  const head = new TextEncoder().encode(JSON.stringify({ round, totalWeight, view, contributions, hash }))
  const bytes = new Uint8Array(4 + head.byteLength + held.mean.byteLength)
  new DataView(bytes.buffer).setUint32(0, head.byteLength, true)
  bytes.set(head, 4)
  bytes.set(bytesOf(held.mean), 4 + head.byteLength)
  return bytes
}

/** Reads a stored result and checks it against its name. Throws RingError BAD_STORE. */
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
    const { round, totalWeight, view } = head
    const hash = nameResult({ round, totalWeight, view, contributions, mean })
    if (Buffer.from(hash).toString('hex') !== head.hash) throw new Error('hash does not match')
    return { round, totalWeight, view, contributions, mean, hash }
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

function plain(contributions: readonly Contribution[]): object[] {
  return contributions.map(({ peerId, weight, commitment }) => ({
    peerId,
    weight,
    commitment: commitment === null ? null : Buffer.from(commitment).toString('hex'),
  }))
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
