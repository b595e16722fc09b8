/** The result of a round between being computed and being committed: how it is named, and how it is stored. */
import { z } from 'zod'
import { sha3_256 } from '@gym-node/wire'
import { RingError } from '../errors.ts'
import type { View } from '../types.ts'

/** A result that may yet be committed. */
export interface HeldResult {
  readonly round: number
  readonly mean: Float32Array
  readonly hash: Uint8Array
  readonly totalWeight: number
  readonly view: View
}

const headSchema = z.strictObject({
  round: z.number().int().min(0),
  totalWeight: z.number(),
  view: z.strictObject({ ringId: z.string(), epoch: z.number().int(), members: z.array(z.string()) }),
  hash: z.string(),
})

/** Names a result: the bytes, and everything that all members must agree on about them. */
export function nameResult(view: View, round: number, total: number, mean: Float32Array): Uint8Array {
  const about = new TextEncoder().encode(
    JSON.stringify([view.ringId, view.epoch, view.members, round, total]),
  )
  return sha3_256(about, bytesOf(mean))
}

/** u32 length, JSON head, float32 values, little-endian. */
export function encodeHeld(held: HeldResult): Uint8Array {
  const { round, totalWeight, view } = held
  const hash = Buffer.from(held.hash).toString('hex')
  const head = new TextEncoder().encode(JSON.stringify({ round, totalWeight, view, hash }))
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
    const mean = new Float32Array(bytes.slice(4 + length).buffer)
    const hash = nameResult(head.view, head.round, head.totalWeight, mean)
    if (Buffer.from(hash).toString('hex') !== head.hash) throw new Error('hash does not match')
    return { ...head, mean, hash }
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

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
