/** Fixed inputs that several tests share: identities from constant seeds, metadata, deterministic tensors. */
import type { DeltaInput, DeltaMetadata, DeltaTensor, DeltaTensorSource, Identity } from '@gym-node/wire'
import { createIdentity, decodeDeltaBuffer } from '@gym-node/wire'

/** Identity number `n`; the same in every run. */
export function testIdentity(n: number): Identity {
  return createIdentity({ ed25519: new Uint8Array(32).fill(n), mlDsa87: new Uint8Array(32).fill(100 + n) })
}

/** Valid metadata of an unsigned delta by identity 1. */
export const SAMPLE_METADATA: DeltaMetadata = {
  worker_id: testIdentity(1).peerId,
  job: 'arith',
  view: 'ring-1',
  epoch: 3,
  round: 7,
  sequence: 12,
  step_first: 56,
  step_last: 63,
  timestamp: '2026-01-31T12:00:00.000Z',
  loss: -0.0125,
  reward_mean: 0.5,
  base_model: { id: 'arith-model', sha256: 'a1'.repeat(32) },
  state_before: 'b2'.repeat(32),
  state_after: 'c3'.repeat(32),
  trace_sha3_256: 'd4'.repeat(32),
  attestation: { type: 'none' },
  binding: null,
}

/** Reproducible values of about unit normal distribution (sum of four uniforms of a 32-bit LCG). */
export function normals(count: number, seed: number): Float32Array {
  let state = seed >>> 0
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  return Float32Array.from(
    { length: count },
    () => (uniform() + uniform() + uniform() + uniform()) * Math.sqrt(3),
  )
}

/** One tensor of every dtype, of odd sizes, and an empty one and a scalar. */
export function sampleTensors(): DeltaTensorSource[] {
  return [
    { name: 'f32', dtype: 'f32', shape: [3, 7], values: normals(21, 1) },
    { name: 'f16', dtype: 'f16', shape: [5, 5], values: normals(25, 2) },
    { name: 'bf16', dtype: 'bf16', shape: [2, 3, 4], values: normals(24, 3) },
    { name: 'i8', dtype: 'i8', shape: [601], values: normals(601, 4) },
    { name: 'bitdelta', dtype: 'bitdelta', shape: [67, 9], values: normals(603, 5) },
    { name: 'empty', dtype: 'bf16', shape: [0, 9], values: new Float32Array(0) },
    { name: 'scalar', dtype: 'f32', shape: [], values: Float32Array.of(-1.5) },
  ]
}

/** An unsigned, uncompressed file's input. */
export const SAMPLE: DeltaInput = { metadata: SAMPLE_METADATA, tensors: sampleTensors(), compression: 'none' }

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** All items of an asynchronous iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** `bytes` in pieces of `size`. */
export function* inChunks(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size)
}

/** All tensors of a file in memory. */
export async function readAll(bytes: Uint8Array): Promise<DeltaTensor[]> {
  return collect((await decodeDeltaBuffer(bytes)).tensors())
}
