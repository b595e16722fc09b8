/** `delta inspect`: what a delta file says about itself. Reads it as a stream; judges nothing. */
import { decodeDelta } from '@gym-node/wire'
import { formatBytes } from '../cli/format.ts'
import { openDeltaFile } from './open-file.ts'

/** Statistics of one tensor. */
interface TensorSummary {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  /** Euclidean norm of the values. */
  readonly norm: number
  readonly largest: number
}

/** The report on `path`, as text or JSON. Throws NodeError FILE_* and WireError on a file that is no delta. */
export async function inspectDelta(path: string, asJson: boolean): Promise<string> {
  const { source, size } = await openDeltaFile(path)
  const delta = await decodeDelta(source, undefined, 'checksum', size)
  const tensors: TensorSummary[] = []
  for await (const { name, dtype, shape, values } of delta.tensors())
    tensors.push({ name, dtype, shape, ...sizesOf(values) })
  const { signatures, bodySha3, fileBytes } = await delta.finish()
  const norm = Math.sqrt(tensors.reduce((sum, tensor) => sum + tensor.norm ** 2, 0))
  const facts = {
    file: path,
    bytes: fileBytes,
    compression: delta.header.compression,
    body_sha3_256: bodySha3 === null ? null : Buffer.from(bodySha3).toString('hex'),
    signatures: signatures.map((signature) => signature.scheme),
    norm,
    metadata: delta.metadata,
    tensors,
  }
  if (asJson) return `${JSON.stringify(facts, null, 2)}\n`
  const rows = Object.entries(delta.metadata)
    .filter(([key]) => key !== 'binding')
    .map(([key, value]) => `  ${key.padEnd(16)} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const width = Math.max(4, ...tensors.map((tensor) => tensor.name.length))
  return [
    `${path}: DELTA version 1, ${formatBytes(fileBytes)}, compression ${facts.compression}, signed by ${facts.signatures.join(' and ') || 'nobody'}`,
    `body SHA3-256 ${facts.body_sha3_256 ?? 'not computed'}`,
    '',
    'metadata',
    ...rows,
    '',
    `tensors: ${tensors.length}, norm of all ${norm.toPrecision(6)}`,
    ...tensors.map(
      (tensor) =>
        `  ${tensor.name.padEnd(width)}  ${tensor.dtype}  ${`[${tensor.shape.join(', ')}]`.padEnd(14)} norm ${tensor.norm.toPrecision(4)}  largest ${tensor.largest.toPrecision(4)}`,
    ),
    '',
  ].join('\n')
}

function sizesOf(values: Float32Array): { norm: number; largest: number } {
  let squares = 0
  let largest = 0
  for (const value of values) {
    squares += value * value
    largest = Math.max(largest, Math.abs(value))
  }
  return { norm: Math.sqrt(squares), largest }
}
