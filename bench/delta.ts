/**
 * DELTA files against plain safetensors for one adapter of 40 MB: file size, encode and decode speed in GB/s of float32
 * values, BitDelta's size and error. Prints a Markdown table (docs/DELTA.md keeps one).
 *   node --conditions=gym-source bench/delta.ts [--repeats 5] [--clock wall|cpu]
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type {
  DeltaCompression,
  DeltaDtype,
  DeltaHashing,
  DeltaInput,
  DeltaMetadata,
  DeltaTensorSource,
} from '@gym-node/wire'
import {
  DELTA_COMPRESSIONS,
  DELTA_DTYPES,
  createIdentity,
  decodeDeltaBuffer,
  encodeDeltaToBuffer,
  generateIdentitySeeds,
  roundTripTensor,
  verifyDelta,
} from '@gym-node/wire'

interface Matrix {
  readonly name: string
  readonly shape: readonly [number, number]
  readonly values: Float32Array
}

const { values: options } = parseArgs({
  options: { repeats: { type: 'string', default: '5' }, clock: { type: 'string', default: 'wall' } },
})
const REPEATS = Number(options.repeats)

/** LoRA r 16 on the seven linear layers of a 28-layer model of width 1024: 10.1 million parameters, 40.4 MB. */
function makeAdapter(): Matrix[] {
  const targets = [
    ['q_proj', 1024, 2048],
    ['k_proj', 1024, 1024],
    ['v_proj', 1024, 1024],
    ['o_proj', 2048, 1024],
    ['gate_proj', 1024, 3072],
    ['up_proj', 1024, 3072],
    ['down_proj', 3072, 1024],
  ] as const
  const matrices: Matrix[] = []
  let state = 1
  const fill = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      const first = state / 2 ** 32
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.sqrt(-2 * Math.log(first + 2 ** -33)) * Math.cos((2 * Math.PI * state) / 2 ** 32) * 1e-3
    })
  for (let layer = 0; layer < 28; layer++) {
    for (const [target, inputs, outputs] of targets) {
      const name = `base_model.model.model.layers.${layer}.${target}.lora`
      matrices.push({ name: `${name}_A.weight`, shape: [16, inputs], values: fill(16 * inputs) })
      matrices.push({ name: `${name}_B.weight`, shape: [outputs, 16], values: fill(16 * outputs) })
    }
  }
  return matrices
}

/** Bytes of a safetensors file: u64 header length, JSON header, data. */
function encodeSafetensors(matrices: readonly Matrix[]): Buffer {
  let offset = 0
  const entries = matrices.map(({ name, shape, values }) => {
    const start = offset
    offset += values.byteLength
    return [name, { dtype: 'F32', shape, data_offsets: [start, offset] }]
  })
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const header = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, ...matrices.map(({ values }) => new Uint8Array(values.buffer))])
}

/** What a plain reader does: read the file, parse the header, copy each tensor into memory of its own. */
function readSafetensors(path: string): number {
  const file = readFileSync(path)
  const data = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, data)) as Record<
    string,
    { data_offsets: [number, number] }
  >
  let elements = 0
  for (const {
    data_offsets: [start, end],
  } of Object.values(header)) {
    const values = new Float32Array((end - start) / 4)
    new Uint8Array(values.buffer).set(file.subarray(data + start, data + end))
    elements += values.length
  }
  return elements
}

async function readDelta(path: string, hashing: DeltaHashing): Promise<number> {
  let elements = 0
  const delta = await decodeDeltaBuffer(readFileSync(path), undefined, hashing)
  for await (const { values } of delta.tensors()) elements += values.length
  return elements
}

/** Seconds on the wall, or (`--clock cpu`, for machines that do other work too) of CPU time over all threads. */
function now(): number {
  if (options.clock === 'wall') return Number(process.hrtime.bigint()) / 1e9
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** Median seconds of each work, run in turn so that what else the machine does slows all of them alike. */
async function medianSeconds(...works: (() => unknown)[]): Promise<number[]> {
  const seconds = works.map((): number[] => [])
  for (let i = 0; i <= REPEATS; i++) {
    for (const [w, work] of works.entries()) {
      const start = now()
      await work()
      if (i > 0) seconds[w].push(now() - start)
    }
  }
  return seconds.map((runs) => runs.sort((a, b) => a - b)[runs.length >> 1])
}

function makeInput(
  matrices: readonly Matrix[],
  dtype: DeltaDtype,
  compression: DeltaCompression,
): DeltaInput {
  const signers = createIdentity(generateIdentitySeeds())
  const metadata: DeltaMetadata = {
    worker_id: signers.peerId,
    job: 'bench',
    view: 'bench',
    epoch: 0,
    round: 0,
    sequence: 0,
    step_first: 0,
    step_last: 0,
    timestamp: new Date(0).toISOString(),
    loss: null,
    reward_mean: null,
    base_model: { id: 'bench', sha256: '0'.repeat(64) },
    state_before: '0'.repeat(64),
    state_after: '0'.repeat(64),
    trace_sha3_256: null,
    attestation: { type: 'none' },
    binding: null,
  }
  const tensors = matrices.map(({ name, shape, values }): DeltaTensorSource => ({
    name,
    dtype,
    shape,
    values,
  }))
  return { metadata, tensors, compression, signers }
}

function meanError(matrices: readonly Matrix[], dtype: DeltaDtype): number {
  let lost = 0
  let whole = 0
  for (const { shape, values } of matrices) {
    const norm2 = values.reduce((sum, x) => sum + x * x, 0)
    lost += norm2 * roundTripTensor(dtype, shape, values).relativeError ** 2
    whole += norm2
  }
  return Math.sqrt(lost / whole)
}

const folder = mkdtempSync(join(tmpdir(), 'gym-bench-delta-'))
try {
  const matrices = makeAdapter()
  const bytes = matrices.reduce((sum, { values }) => sum + values.byteLength, 0)
  const speed = (seconds: number): string => (bytes / 1e9 / seconds).toFixed(2)
  const plain = join(folder, 'adapter.safetensors')
  writeFileSync(plain, encodeSafetensors(matrices))
  const [written, read, hashed] = await medianSeconds(
    () => writeFileSync(plain, encodeSafetensors(matrices)),
    () => readSafetensors(plain),
    () => createHash('sha3-256').update(readFileSync(plain)).digest(),
  )
  console.log(
    `${(bytes / 1e6).toFixed(1)} MB of float32 in ${matrices.length} tensors; ${cpus()[0].model}, Node ${process.version}; median of ${REPEATS}, ${options.clock} time`,
  )
  console.log(
    `safetensors f32: ${speed(written)} GB/s written, ${speed(read)} read; its SHA3-256: ${speed(hashed)} GB/s\n`,
  )
  console.log(
    '| DELTA file | MB | of bf16 | relative error | encode and sign GB/s | decode GB/s | of safetensors | decode and checksum GB/s | of safetensors | verify GB/s |',
  )
  console.log(`|${' --- |'.repeat(10)}`)
  for (const dtype of DELTA_DTYPES) {
    for (const compression of DELTA_COMPRESSIONS) {
      const path = join(folder, 'adapter.delta')
      const input = makeInput(matrices, dtype, compression)
      const [encode, reference, decode, checked, verify] = await medianSeconds(
        async () => writeFileSync(path, await encodeDeltaToBuffer(input)),
        () => readSafetensors(plain),
        () => readDelta(path, 'none'),
        () => readDelta(path, 'checksum'),
        () => verifyDelta([readFileSync(path)]),
      )
      const size = statSync(path).size
      const cells = [
        `${dtype} ${compression}`,
        (size / 1e6).toFixed(2),
        (size / (bytes / 2)).toFixed(3),
        meanError(matrices, dtype).toExponential(1),
        speed(encode),
        speed(decode),
        (reference / decode).toFixed(2),
        speed(checked),
        (reference / checked).toFixed(2),
        speed(verify),
      ]
      console.log(`| ${cells.join(' | ')} |`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
