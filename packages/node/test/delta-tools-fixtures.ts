/** Small adapters, deltas and folders for the delta-tools tests. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createIdentity, type DeltaMetadata, type Identity } from '@gym-node/wire'
import { adapterSha3, flatten, type Adapter } from '../src/delta-tools/adapter.ts'
import type { AdapterSource } from '../src/delta-tools/adapter-source.ts'
import { writeDeltaFile } from '../src/delta-tools/delta-file.ts'

/** The repository's root. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
export const DEMO_MODEL = join(ROOT, 'packages/node/demo/arith-model')
/** What the golden adapter was trained on. */
export const GOLDEN_MODEL = join(ROOT, 'test/golden/arith/model')
export const GOLDEN_ADAPTER = join(ROOT, 'test/golden/arith/adapter-trl-gspo-500steps')

/** A folder that the test removes. */
export async function temporaryFolder(t: Pick<TestContext, 'after'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-node-test-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A fixed identity. */
export function identityOf(seed: number): Identity {
  return createIdentity({
    ed25519: new Uint8Array(32).fill(seed),
    mlDsa87: new Uint8Array(32).fill(seed + 100),
  })
}

/** An adapter of rank 2 over two layers; numbers that float32 holds exactly, drawn by `at`. */
export function smallAdapter(at: (index: number) => number): Adapter {
  const names = ['down_proj', 'up_proj'].flatMap((layer) => [
    { name: `base_model.model.model.layers.0.mlp.${layer}.lora_A.weight`, shape: [2, 6] },
    { name: `base_model.model.model.layers.0.mlp.${layer}.lora_B.weight`, shape: [4, 2] },
  ])
  let index = 0
  const matrices = names.map(({ name, shape: [rows = 0, columns = 0] }) => ({
    name,
    shape: [rows, columns],
    values: Float32Array.from({ length: rows * columns }, () => at(index++)),
  }))
  return {
    matrices,
    lora: { rank: 2, alpha: 4, use_rslora: false, target_modules: ['up_proj', 'down_proj'] },
  }
}

/** An adapter in memory as the tools read one. */
export function sourceOf({ matrices, lora }: Adapter): AdapterSource {
  return {
    matrices,
    lora,
    values: async (at) => matrices[at]?.values ?? new Float32Array(0),
    close: async () => undefined,
  }
}

/** Metadata of a difference between two adapters. */
export function metadataOf(
  before: Adapter,
  after: Adapter,
  change: Partial<DeltaMetadata> = {},
): DeltaMetadata {
  return {
    worker_id: 'worker',
    job: 'test',
    view: 'v',
    epoch: 1,
    round: 3,
    sequence: 2,
    step_first: 9,
    step_last: 12,
    timestamp: '2026-01-31T12:00:00Z',
    loss: 0.5,
    reward_mean: 0.25,
    base_model: { id: 'demo', sha256: 'ab'.repeat(32) },
    state_before: adapterSha3(flatten(before)),
    state_after: adapterSha3(flatten(after)),
    trace_sha3_256: null,
    attestation: { type: 'none' },
    binding: null,
    content: 'difference',
    ...(before.lora === null ? {} : { lora: before.lora }),
    ...change,
  }
}

/** Writes after - before as a delta file. */
export async function writeDifference(
  path: string,
  before: Adapter,
  after: Adapter,
  signer?: Identity,
  change: Partial<DeltaMetadata> = {},
): Promise<void> {
  const matrices = before.matrices.map(({ name, shape, values }, at) => ({
    name,
    shape,
    values: values.map((value, i) => (after.matrices[at]?.values[i] ?? 0) - value),
  }))
  const metadata = metadataOf(before, after, {
    ...(signer === undefined ? {} : { worker_id: signer.peerId }),
    ...change,
  })
  const file = { metadata, matrices, dtype: 'f32', compression: 'zstd' } as const
  await writeDeltaFile(path, signer === undefined ? file : { ...file, identity: signer })
}
