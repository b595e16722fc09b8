/**
 * Trace files: a magic, then records of [u32 length, u32 CRC-32, payload], little-endian. Records are only ever
 * appended, so a crash costs at most the last one. About 6 bytes a sampled token: its id as a varint, its logprob as
 * the exact float32 that the loss used.
 */
import { crc32 } from 'node:zlib'
import { z } from 'zod'
import type { GSPOConfig } from '../config.ts'
import { resolveConfig } from '../config.ts'
import { MAX_TRACE_BYTES, MAX_TRACE_STEPS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import type { FinishReason } from '../rollout/rollout.ts'
import { ByteReader, ByteWriter } from './byte-codec.ts'
import type { StepTrace, TracedCompletion, TracedGroup } from './types.ts'

const MAGIC = Buffer.from('GYMTRACE', 'latin1')
const RECORD_HEADER_BYTES = 8
const HEADER_RECORD = 0
const STEP_RECORD = 1
const FINISH: readonly FinishReason[] = ['eos', 'stop', 'length']

const headerSchema = z.object({
  version: z.literal(1),
  job: z.string(),
  workerId: z.string(),
  round: z.int().nonnegative(),
  stateBefore: z.string(),
  model: z.object({ id: z.string(), sha256: z.string() }),
  dataset: z.object({ sha256: z.string(), size: z.int().nonnegative() }),
  engine: z.string(),
  versions: z.record(z.string(), z.string()),
})

/** What a trace's steps started from and ran on. */
export interface TraceHeader extends z.infer<typeof headerSchema> {
  readonly config: GSPOConfig
}

/** Limits of a reader. */
export interface TraceLimits {
  /** Largest file, bytes. */
  readonly maxBytes?: number
  /** Most steps. */
  readonly maxSteps?: number
}

/** A decoded trace. */
export interface DecodedTrace {
  readonly header: TraceHeader
  readonly steps: StepTrace[]
  /** Whether the last record is torn (a crash while appending); the whole ones before it are in `steps`. */
  readonly truncated: boolean
}

/** The first bytes of a trace file. */
export function encodeTraceHeader(header: TraceHeader): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(HEADER_RECORD)
  writer.raw(Buffer.from(JSON.stringify(header), 'utf8'))
  return Buffer.concat([MAGIC, toRecord(writer.finish())])
}

/** The bytes to append for one step. */
export function encodeTraceStep(trace: StepTrace): Uint8Array {
  const writer = new ByteWriter()
  writer.byte(STEP_RECORD)
  writer.varint(trace.step)
  writer.varint(trace.seed)
  writer.varint(trace.groups.length)
  for (const group of trace.groups) writeGroup(writer, group)
  return toRecord(writer.finish())
}

/** Decodes a trace file. Throws GspoError BAD_TRACE on anything but a torn last record. */
export function decodeTrace(bytes: Uint8Array, limits: TraceLimits = {}): DecodedTrace {
  const { maxBytes = MAX_TRACE_BYTES, maxSteps = MAX_TRACE_STEPS } = limits
  if (bytes.length > maxBytes)
    throw new GspoError('BAD_TRACE', `trace is ${bytes.length} bytes, limit ${maxBytes}`)
  if (Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) !== 0)
    throw new GspoError('BAD_TRACE', 'not a trace file: it does not begin with GYMTRACE')
  const { payloads, truncated } = splitRecords(bytes.subarray(MAGIC.length))
  const [first, ...rest] = payloads
  if (first === undefined) throw new GspoError('BAD_TRACE', 'trace has no whole header record')
  if (rest.length > maxSteps)
    throw new GspoError('BAD_TRACE', `trace has ${rest.length} steps, limit ${maxSteps}`)
  return { header: parseHeader(first), steps: rest.map(parseStep), truncated }
}

function toRecord(payload: Uint8Array): Uint8Array {
  const record = Buffer.alloc(RECORD_HEADER_BYTES + payload.length)
  record.writeUInt32LE(payload.length, 0)
  record.writeUInt32LE(crc32(payload), 4)
  record.set(payload, RECORD_HEADER_BYTES)
  return record
}

function splitRecords(bytes: Uint8Array): { payloads: Uint8Array[]; truncated: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const payloads: Uint8Array[] = []
  let position = 0
  while (position < bytes.length) {
    if (position + RECORD_HEADER_BYTES > bytes.length) return { payloads, truncated: true }
    const end = position + RECORD_HEADER_BYTES + view.getUint32(position, true)
    if (end > bytes.length) return { payloads, truncated: true }
    const payload = bytes.subarray(position + RECORD_HEADER_BYTES, end)
    if (crc32(payload) !== view.getUint32(position + 4, true)) {
      if (end === bytes.length) return { payloads, truncated: true }
      throw new GspoError('BAD_TRACE', `trace record ${payloads.length} at byte ${position} fails its CRC`)
    }
    payloads.push(payload)
    position = end
  }
  return { payloads, truncated: false }
}

function parseHeader(payload: Uint8Array): TraceHeader {
  if (payload[0] !== HEADER_RECORD)
    throw new GspoError('BAD_TRACE', `trace begins with record kind ${payload[0]}, expected its header`)
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(payload.subarray(1)).toString('utf8'))
  } catch (cause) {
    throw new GspoError('BAD_TRACE', 'trace header is not JSON', { cause })
  }
  const parsed = headerSchema.safeParse(value)
  if (!parsed.success) throw new GspoError('BAD_TRACE', `trace header:\n${z.prettifyError(parsed.error)}`)
  const config = typeof value === 'object' && value !== null && 'config' in value ? value.config : undefined
  try {
    resolveConfig(config)
  } catch (cause) {
    throw new GspoError('BAD_TRACE', 'trace header: its config is not a training config', { cause })
  }
  return { ...parsed.data, config: config as GSPOConfig }
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
    writer.floats(completion.logps)
    writer.number(completion.reward)
    writer.varint(completion.components.length)
    for (const component of completion.components) writer.number(component)
  }
}

function parseStep(payload: Uint8Array): StepTrace {
  const reader = new ByteReader(payload)
  const kind = reader.byte()
  if (kind !== STEP_RECORD) throw new GspoError('BAD_TRACE', `trace has record kind ${kind}, expected a step`)
  const step = reader.varint()
  const seed = reader.varint()
  const groups: TracedGroup[] = []
  for (let left = reader.count(3, 'groups'); left > 0; left--) groups.push(parseGroup(reader))
  if (reader.remaining > 0)
    throw new GspoError('BAD_TRACE', `trace of step ${step} has ${reader.remaining} bytes too many`)
  return { step, seed, groups }
}

function parseGroup(reader: ByteReader): TracedGroup {
  const dataPosition = reader.varint()
  const promptIds = parseIds(reader, reader.count(1, 'prompt tokens'))
  const completions: TracedCompletion[] = []
  for (let left = reader.count(3, 'completions'); left > 0; left--) completions.push(parseCompletion(reader))
  return { dataPosition, promptIds, completions }
}

function parseCompletion(reader: ByteReader): TracedCompletion {
  const packed = reader.varint()
  const length = Math.floor(packed / 4)
  const finish = FINISH[packed % 4]
  if (finish === undefined)
    throw new GspoError('BAD_TRACE', `trace has ending ${packed % 4}, expected 0 to 2`)
  if (length * 5 > reader.remaining)
    throw new GspoError('BAD_TRACE', `trace says ${length} tokens, but only ${reader.remaining} bytes follow`)
  const tokens = parseIds(reader, length)
  const logps = reader.floats(length)
  const reward = reader.number()
  const components: number[] = []
  for (let left = reader.count(1, 'reward components'); left > 0; left--) components.push(reader.number())
  return { tokens, logps, finish, reward, components }
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
