/** DELTA between two implementations that share no code: this repository's and the Python reference, both ways. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { DeltaCompression, DeltaInput, DeltaMetadata, DeltaTensorSource } from '@gym-node/wire'
import {
  DELTA_COMPRESSIONS,
  DELTA_DTYPES,
  createIdentity,
  decodeDeltaBuffer,
  encodeDeltaToBuffer,
} from '@gym-node/wire'
import { missingPython, pythonDecode, pythonEncode } from './python.ts'

const identity = createIdentity({ ed25519: new Uint8Array(32).fill(1), mlDsa87: new Uint8Array(32).fill(2) })

const METADATA: DeltaMetadata = {
  worker_id: identity.peerId,
  job: 'interop',
  view: 'ring-1',
  epoch: 0,
  round: 1,
  sequence: 2,
  step_first: 3,
  step_last: 4,
  timestamp: '2026-02-28T23:59:59Z',
  loss: 1.25e-9,
  reward_mean: -0.1,
  base_model: { id: 'm', sha256: '01'.repeat(32) },
  state_before: '02'.repeat(32),
  state_after: '03'.repeat(32),
  trace_sha3_256: '04'.repeat(32),
  attestation: { type: 'none' },
  binding: null,
  extra: {
    'ключ\n': [1e21, 1e-7, 123456789.125, -0.000001, 5e-324, 1.7976931348623157e308, 100, true, null],
    '\u007f\u2028': '"\\\u0001',
  },
}

/** Values over many magnitudes, with zeros of both signs; `offset` varies them. */
const wave = (count: number, offset: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) =>
    i % 11 === 0 ? -0 : Math.sin(i + offset) * 10 ** ((i % 9) - 5),
  )

const TENSORS: DeltaTensorSource[] = [
  ...DELTA_DTYPES.map((dtype, i): DeltaTensorSource => ({
    name: `${dtype}.matrix`,
    dtype,
    shape: [37, 23],
    values: wave(851, i),
  })),
  ...DELTA_DTYPES.map((dtype): DeltaTensorSource => ({
    name: `${dtype}.empty`,
    dtype,
    shape: [3, 0],
    values: new Float32Array(0),
  })),
  ...DELTA_DTYPES.map((dtype, i): DeltaTensorSource => ({
    name: `${dtype}.wide`,
    dtype,
    shape: [2, 2, 300],
    values: wave(1200, 9 + i),
  })),
  { name: 'ü', dtype: 'f32', shape: [], values: Float32Array.of(-1e-45) },
]

const hexOf = (values: Float32Array): string =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex')

async function read(
  file: Uint8Array,
): Promise<{ name: string; dtype: string; shape: number[]; values: string }[]> {
  const tensors = []
  for await (const { name, dtype, shape, values } of (await decodeDeltaBuffer(file)).tensors()) {
    tensors.push({ name, dtype, shape: [...shape], values: hexOf(values) })
  }
  return tensors
}

describe('the Python reference', { skip: missingPython }, () => {
  const input = (compression: DeltaCompression): DeltaInput => ({
    metadata: METADATA,
    tensors: TENSORS,
    compression,
  })

  for (const compression of DELTA_COMPRESSIONS) {
    it(`reads every bit of a signed ${compression} file, and finds its signatures and binding good`, async () => {
      const file = await encodeDeltaToBuffer({ ...input(compression), signers: identity })
      const [report] = pythonDecode(file)
      assert.ok('tensors' in report, JSON.stringify(report))
      assert.deepEqual(report.tensors, await read(file))
      assert.deepEqual(report.metadata, (await decodeDeltaBuffer(file)).metadata)
      assert.deepEqual(
        report.signatures.map(({ scheme, ok }) => [scheme, ok]),
        [
          ['ed25519', true],
          ['ml-dsa-87', true],
        ],
      )
      assert.equal(report.bound_peer_id, identity.peerId)
      assert.deepEqual(
        report.bound_keys,
        report.signatures.map(({ key }) => key),
      )
    })

    it(`writes ${compression} files that are read here bit for bit`, async () => {
      const spec = TENSORS.map(({ name, dtype, shape, values }) => ({
        name,
        dtype,
        shape,
        values: hexOf(values as Float32Array),
      }))
      const file = pythonEncode({ metadata: METADATA, compression, tensors: spec })
      assert.deepEqual(await read(file), await read(await encodeDeltaToBuffer(input(compression))))
      if (compression === 'none')
        assert.equal(Buffer.compare(file, await encodeDeltaToBuffer(input('none'))), 0)
    })
  }

  it('refuses an altered signature and an altered body, as the reader here does', async () => {
    const file = await encodeDeltaToBuffer({ ...input('none'), signers: identity })
    const flip = (at: number): Uint8Array => Uint8Array.from(file).with(at, file[at] ^ 1)
    const [signature, body] = pythonDecode(flip(file.length - 2000), flip(12000))
    assert.ok('signatures' in signature)
    assert.deepEqual(
      signature.signatures.map(({ ok }) => ok),
      [true, false],
    )
    assert.ok('error' in body)
  })
})
