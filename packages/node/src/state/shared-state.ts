/**
 * The state that every node of a ring shares, as bytes: round, adapter and outer optimiser. A pure function of
 * its content, so equal states have equal SHA3-256 on all nodes. Local things (AdamW moments, RNG) are not in it.
 *
 *   "GYMSTATE", u32 version = 1, u32 length of the header, canonical JSON header, adapter (f32 little-endian),
 *   outer momentum (f32, as many elements as the header says)
 */
import { canonicalJson, type JsonValue } from '@gym-node/wire'
import { z } from 'zod'
import { NodeError } from '../errors.ts'

const MAGIC = Buffer.from('GYMSTATE', 'latin1')
const VERSION = 1
const PREFIX_BYTES = 16
const F32_BYTES = 4

/** What a ring agrees on after a round. */
export interface SharedState {
  readonly round: number
  /** Hex SHA-256 of the base model's weights: an adapter means nothing on another base. */
  readonly baseSha256: string
  /** Hex SHA3-256 of the adapter's tensor names and shapes. */
  readonly layoutSha3: string
  /**
   * The factor in front of the adapter's product (lora_alpha by rank): the same matrices under another factor are
   * another model. Absent in states that began before it was kept.
   */
  readonly adapterScale?: number
  readonly adapter: Float32Array
  /** Momentum of the outer optimiser; empty for a plain average. */
  readonly momentum: Float32Array
}

const headerSchema = z.strictObject({
  round: z.int().min(0),
  base_sha256: z.string(),
  layout_sha3_256: z.string(),
  adapter_scale: z.number().optional(),
  adapter_length: z.int().min(0),
  momentum_length: z.int().min(0),
})

/** The bytes of `state`; fresh memory. */
export function encodeSharedState(state: SharedState): Uint8Array {
  const header: JsonValue = {
    round: state.round,
    base_sha256: state.baseSha256,
    layout_sha3_256: state.layoutSha3,
    ...(state.adapterScale === undefined ? {} : { adapter_scale: state.adapterScale }),
    adapter_length: state.adapter.length,
    momentum_length: state.momentum.length,
  }
  const json = Buffer.from(canonicalJson(header), 'utf8')
  const prefix = Buffer.alloc(PREFIX_BYTES)
  MAGIC.copy(prefix)
  prefix.writeUInt32LE(VERSION, 8)
  prefix.writeUInt32LE(json.length, 12)
  return Buffer.concat([prefix, json, f32Bytes(state.adapter), f32Bytes(state.momentum)])
}

/** Reads what `encodeSharedState` wrote. Throws NodeError STATE_CORRUPT; allocates no more than the input holds. */
export function decodeSharedState(bytes: Uint8Array): SharedState {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (all.length < PREFIX_BYTES || !all.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new NodeError(
      'STATE_CORRUPT',
      `ring state of ${all.length} bytes does not begin with ${MAGIC.toString('latin1')}`,
    )
  }
  const version = all.readUInt32LE(8)
  if (version !== VERSION)
    throw new NodeError('STATE_CORRUPT', `ring state has version ${version}, expected ${VERSION}`)
  const bodyAt = PREFIX_BYTES + all.readUInt32LE(12)
  if (bodyAt > all.length)
    throw new NodeError('STATE_CORRUPT', `ring state ends inside its header (${all.length} bytes)`)
  const header = parseHeader(all.toString('utf8', PREFIX_BYTES, bodyAt))
  const expected = bodyAt + F32_BYTES * (header.adapter_length + header.momentum_length)
  if (expected !== all.length) {
    throw new NodeError('STATE_CORRUPT', `ring state is ${all.length} bytes, its header says ${expected}`)
  }
  const momentumAt = bodyAt + F32_BYTES * header.adapter_length
  return {
    round: header.round,
    baseSha256: header.base_sha256,
    layoutSha3: header.layout_sha3_256,
    ...(header.adapter_scale === undefined ? {} : { adapterScale: header.adapter_scale }),
    adapter: f32From(all, bodyAt, header.adapter_length),
    momentum: f32From(all, momentumAt, header.momentum_length),
  }
}

/** The float32 values as little-endian bytes: a view, no copy (every platform of Node is little-endian). */
export function f32Bytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

function f32From(source: Buffer, at: number, length: number): Float32Array {
  const values = new Float32Array(length)
  f32Bytes(values).set(source.subarray(at, at + F32_BYTES * length))
  return values
}

function parseHeader(text: string): z.infer<typeof headerSchema> {
  try {
    return headerSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new NodeError('STATE_CORRUPT', 'the header of the ring state is not what this version writes', {
      cause: error,
    })
  }
}
