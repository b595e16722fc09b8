/**
 * One step of a trace as bytes: varints, then all logprobs by byte planes (exponents together, so that they compress),
 * in one Zstandard frame. About 5 to 6 bytes a sampled token: its id, and its logprob as the exact float32 that the
 * loss used.
 */
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { MAX_TRACE_COMPONENTS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import type { FinishReason } from '../rollout/rollout.ts'
import { ByteReader, ByteWriter } from './byte-codec.ts'
import type { StepTrace, TracedCompletion, TracedGroup } from './types.ts'

const FINISH: readonly FinishReason[] = ['eos', 'stop', 'length']
const FLOAT_BYTES = 4

/** The step's bytes. Throws BAD_TRACE for one that cannot be written, such as logprobs that are not one a token. */
export function packStep(trace: StepTrace): Uint8Array {
  const writer = new ByteWriter()
  writer.varint(trace.step)
  writer.varint(trace.seed)
  writer.varint(trace.groups.length)
  for (const group of trace.groups) writeGroup(writer, group)
  const logps = trace.groups.flatMap(({ completions }) => completions.map((completion) => completion.logps))
  writer.raw(toPlanes(logps))
  return zstdCompressSync(writer.finish())
}

/** What a reader can still take. */
export interface StepBudget {
  /** Bytes before compression. */
  readonly bytes: number
  /** Groups and completions. */
  readonly samples: number
}

/** The inverse, and what it took of the budget. Throws GspoError BAD_TRACE. */
export function unpackStep(bytes: Uint8Array, budget: StepBudget): { step: StepTrace; took: StepBudget } {
  let plain: Uint8Array
  try {
    plain = zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, budget.bytes) })
  } catch (cause) {
    throw new GspoError('BAD_TRACE', `a step of the trace does not unpack into ${budget.bytes} bytes`, {
      cause,
    })
  }
  const reader = new ByteReader(plain)
  const step = reader.varint()
  const seed = reader.varint()
  const groups: UnscoredGroup[] = []
  let tokens = 0
  let samples = 0
  for (let left = reader.count(3, 'groups'); left > 0; left--) {
    const group = parseGroup(reader, budget.samples - samples)
    samples += 1 + group.completions.length
    for (const completion of group.completions) tokens += completion.tokens.length
    groups.push(group)
  }
  if (reader.remaining !== FLOAT_BYTES * tokens)
    throw new GspoError(
      'BAD_TRACE',
      `trace of step ${step} has ${reader.remaining} bytes of logprobs, expected ${FLOAT_BYTES * tokens}`,
    )
  const logps = fromPlanes(plain.subarray(plain.length - FLOAT_BYTES * tokens))
  let next = 0
  const scored = groups.map((group): TracedGroup => ({
    ...group,
    completions: group.completions.map((completion): TracedCompletion => {
      next += completion.tokens.length
      return { ...completion, logps: logps.slice(next - completion.tokens.length, next) }
    }),
  }))
  return { step: { step, seed, groups: scored }, took: { bytes: plain.length, samples } }
}

type UnscoredGroup = Omit<TracedGroup, 'completions'> & { completions: Omit<TracedCompletion, 'logps'>[] }

/** Byte 0 of every float, then byte 1 of every float, and so on. */
function toPlanes(parts: readonly Float32Array[]): Uint8Array {
  const count = parts.reduce((sum, { length }) => sum + length, 0)
  const planes = new Uint8Array(FLOAT_BYTES * count)
  let at = 0
  for (const part of parts) {
    const bytes = new DataView(part.buffer, part.byteOffset, part.byteLength)
    for (let i = 0; i < part.length; i++, at++) {
      const bits = bytes.getUint32(FLOAT_BYTES * i, true)
      for (let plane = 0; plane < FLOAT_BYTES; plane++) planes[plane * count + at] = bits >>> (8 * plane)
    }
  }
  return planes
}

function fromPlanes(planes: Uint8Array): Float32Array {
  const count = planes.length / FLOAT_BYTES
  const bits = new Uint32Array(count)
  for (let i = 0; i < count; i++) {
    for (let plane = 0; plane < FLOAT_BYTES; plane++)
      bits[i] = (bits[i] ?? 0) | ((planes[plane * count + i] ?? 0) << (8 * plane))
  }
  return new Float32Array(bits.buffer)
}

function writeGroup(writer: ByteWriter, group: TracedGroup): void {
  writer.varint(group.dataPosition)
  writer.varint(group.promptIds.length)
  for (const id of group.promptIds) writer.varint(id)
  writer.varint(group.completions.length)
  for (const completion of group.completions) {
    if (completion.logps.length !== completion.tokens.length)
      throw new GspoError(
        'BAD_TRACE',
        `completion has ${completion.tokens.length} tokens and ${completion.logps.length} logprobs`,
      )
    writer.varint(completion.tokens.length * 4 + FINISH.indexOf(completion.finish))
    for (const token of completion.tokens) writer.varint(token)
    writer.number(completion.reward)
    writer.varint(completion.components.length)
    for (const component of completion.components) writer.number(component)
  }
}

function parseGroup(reader: ByteReader, maxSamples: number): UnscoredGroup {
  const dataPosition = reader.varint()
  const promptIds = parseIds(reader, reader.count(1, 'prompt tokens'))
  const completions: UnscoredGroup['completions'] = []
  const count = reader.count(3, 'completions')
  if (count >= maxSamples)
    throw new GspoError(
      'BAD_TRACE',
      `trace has ${count} completions more, its reader takes ${maxSamples - 1}`,
    )
  for (let left = count; left > 0; left--) completions.push(parseCompletion(reader))
  return { dataPosition, promptIds, completions }
}

function parseCompletion(reader: ByteReader): Omit<TracedCompletion, 'logps'> {
  const packed = reader.varint()
  const length = Math.floor(packed / 4)
  const finish = FINISH[packed % 4]
  if (finish === undefined)
    throw new GspoError('BAD_TRACE', `trace has ending ${packed % 4}, expected 0 to 2`)
  if (length > reader.remaining)
    throw new GspoError('BAD_TRACE', `trace says ${length} tokens, but only ${reader.remaining} bytes follow`)
  const tokens = parseIds(reader, length)
  const reward = reader.number()
  const components: number[] = []
  const count = reader.count(1, 'reward components')
  if (count > MAX_TRACE_COMPONENTS)
    throw new GspoError('BAD_TRACE', `trace has ${count} reward components, limit ${MAX_TRACE_COMPONENTS}`)
  for (let left = count; left > 0; left--) components.push(reader.number())
  return { tokens, finish, reward, components }
}

function parseIds(reader: ByteReader, count: number): Int32Array {
  const ids = new Int32Array(count)
  for (let i = 0; i < count; i++) {
    const id = reader.varint()
    if (id > 0x7fffffff) throw new GspoError('BAD_TRACE', `trace has token id ${id}, above 2^31 - 1`)
    ids[i] = id
  }
  return ids
}
