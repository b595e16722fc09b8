/**
 * Trace files: what the local steps of a round consumed, in records that are only ever appended, each linked to all
 * before it. A crash costs at most the last one. `records.ts` has the frame, `step-codec.ts` the steps.
 */
import { z } from 'zod'
import type { GSPOConfig } from '../config.ts'
import { resolveConfig } from '../config.ts'
import { MAX_TRACE_BYTES, MAX_TRACE_SAMPLES, MAX_TRACE_STEPS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import { FIRST_LINK, RecordReader, TRACE_MAGIC, toRecord } from './records.ts'
import { packStep, unpackStep } from './step-codec.ts'
import type { StepBudget } from './step-codec.ts'
import type { StepTrace } from './types.ts'

const HEADER_RECORD = 0
const STEP_RECORD = 1

const headerSchema = z.object({
  version: z.literal(2),
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
  /** Largest file, bytes, also before compression. */
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

/** Writes a trace piece by piece: `start`, then what `step` gives, each appended to the file. */
export class TraceEncoder {
  /** The first bytes of the file. */
  readonly start: Uint8Array
  #link: Uint8Array

  /** `after`: the link after the last whole record of a file that is gone on with; the header is in it then. */
  constructor(header: TraceHeader, after?: Uint8Array) {
    const json = Buffer.from(JSON.stringify(header), 'utf8')
    const { bytes, link } = toRecord(Buffer.concat([Buffer.of(HEADER_RECORD), json]), FIRST_LINK)
    this.start = Buffer.concat([TRACE_MAGIC, bytes])
    this.#link = after ?? link
  }

  /** The bytes to append for one step. Throws GspoError BAD_TRACE. */
  step(trace: StepTrace): Uint8Array {
    const { bytes, link } = toRecord(Buffer.concat([Buffer.of(STEP_RECORD), packStep(trace)]), this.#link)
    this.#link = link
    return bytes
  }
}

/** A whole trace file at once. */
export function encodeTrace(header: TraceHeader, steps: readonly StepTrace[]): Uint8Array {
  const encoder = new TraceEncoder(header)
  return Buffer.concat([encoder.start, ...steps.map((step) => encoder.step(step))])
}

/** Reads a trace as its bytes come; what is torn or damaged at the end it leaves out. */
export class TraceScanner {
  readonly #records: RecordReader
  readonly #maxBytes: number
  readonly #maxSteps: number
  #header: TraceHeader | null = null
  #bytes = 0
  #left: StepBudget
  #steps = 0

  constructor({ maxBytes = MAX_TRACE_BYTES, maxSteps = MAX_TRACE_STEPS }: TraceLimits = {}) {
    this.#records = new RecordReader(maxBytes)
    this.#maxBytes = maxBytes
    this.#maxSteps = maxSteps
    this.#left = { bytes: maxBytes, samples: MAX_TRACE_SAMPLES }
  }

  /** Null until it has been read. */
  get header(): TraceHeader | null {
    return this.#header
  }

  /** Bytes up to the end of the last whole record; the file is cut there to go on with it. */
  get wholeBytes(): number {
    return this.#records.wholeBytes
  }

  /** For `TraceEncoder`, to go on after the last whole record. */
  get link(): Uint8Array {
    return this.#records.link
  }

  /** What is wrong after `wholeBytes`; null when nothing is there, or only the beginning of a record. */
  get fault(): string | null {
    return this.#records.fault
  }

  /** Whether bytes follow the last whole record. */
  get isTorn(): boolean {
    return this.#records.heldBytes > 0
  }

  /** The steps that are whole with these bytes. Throws GspoError BAD_TRACE on records that no trace holds. */
  push(chunk: Uint8Array): StepTrace[] {
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes)
      throw new GspoError('BAD_TRACE', `trace is over ${this.#maxBytes} bytes, the limit`)
    return this.#records.push(chunk).flatMap((payload) => {
      const [kind] = payload
      if (this.#header === null) {
        this.#header = parseHeader(payload)
        return []
      }
      if (kind !== STEP_RECORD)
        throw new GspoError('BAD_TRACE', `trace has record kind ${kind}, expected a step`)
      this.#steps += 1
      if (this.#steps > this.#maxSteps)
        throw new GspoError('BAD_TRACE', `trace has over ${this.#maxSteps} steps, the limit`)
      const { step, took } = unpackStep(payload.subarray(1), this.#left)
      this.#left = { bytes: this.#left.bytes - took.bytes, samples: this.#left.samples - took.samples }
      return [step]
    })
  }
}

/** Decodes a trace file. Throws GspoError BAD_TRACE on anything but a torn last record. */
export function decodeTrace(bytes: Uint8Array, limits: TraceLimits = {}): DecodedTrace {
  const scanner = new TraceScanner(limits)
  const steps = scanner.push(bytes)
  const { header, fault, isTorn, wholeBytes } = scanner
  if (fault !== null) throw new GspoError('BAD_TRACE', `the trace's record at byte ${wholeBytes} ${fault}`)
  if (header === null) throw new GspoError('BAD_TRACE', 'not a trace file: it has no whole header record')
  return { header, steps, truncated: isTorn }
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
