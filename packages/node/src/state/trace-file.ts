/**
 * The trace of the round in progress on disk: every step is appended and durable before the next one begins, so memory
 * holds one step, and a crash costs at most the step that was under way. What it left torn is cut off.
 */
import { createHash } from 'node:crypto'
import { open, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { GspoError, TraceEncoder, TraceScanner, type StepTrace, type TraceHeader } from '@gym-node/gspo'
import { errnoOf } from '../errors.ts'
import { asStateError, syncFolder } from './atomic.ts'

/** Bytes read at once when a file is scanned. */
const SCAN_BYTES = 1024 * 1024

/** A trace that is being written. */
export class TraceFile {
  /** Bytes cut off its end when it was opened. */
  readonly bytesCut: number
  readonly #path: string
  readonly #file: FileHandle
  readonly #header: TraceHeader
  #stepsLeft: number
  #encoder: TraceEncoder
  #end: number

  private constructor(
    path: string,
    file: FileHandle,
    header: TraceHeader,
    encoder: TraceEncoder,
    found: { steps: number; end: number; cut: number },
  ) {
    this.#path = path
    this.#file = file
    this.#header = header
    this.#encoder = encoder
    this.#end = found.end
    this.#stepsLeft = found.steps
    this.bytesCut = found.cut
  }

  /**
   * Goes on with the file at `path` when it was begun with exactly this header (the same round, start state, settings
   * and versions); begins a new one otherwise. Throws NodeError STATE_FULL or STATE_UNWRITABLE.
   */
  static async open(path: string, header: TraceHeader): Promise<TraceFile> {
    try {
      const kept = await reopen(path, new TraceEncoder(header).start)
      if (kept !== null) {
        const { file, scanner, steps, size } = kept
        const end = scanner.wholeBytes
        if (size > end) await file.truncate(end)
        await file.sync()
        return new TraceFile(path, file, header, new TraceEncoder(header, scanner.link), {
          steps,
          end,
          cut: size - end,
        })
      }
      const file = await open(path, 'w+', 0o600)
      const trace = new TraceFile(path, file, header, new TraceEncoder(header), { steps: 0, end: 0, cut: 0 })
      await trace.#write(trace.#encoder.start)
      await syncFolder(dirname(path))
      return trace
    } catch (error) {
      throw asStateError(error, path)
    }
  }

  /** Whole steps that the file already held when it was opened. */
  get stepsLeft(): number {
    return this.#stepsLeft
  }

  /** The steps that the file held when it was opened, one at a time. */
  async *left(): AsyncGenerator<StepTrace> {
    const scanner = new TraceScanner()
    let count = 0
    for await (const chunk of chunksOf(this.#file, this.#end)) {
      for (const step of scanner.push(chunk)) {
        if (count++ >= this.#stepsLeft) return
        yield step
      }
    }
  }

  /** Appends a step; on disk when it resolves. Throws NodeError STATE_FULL or STATE_UNWRITABLE. */
  async append(step: StepTrace): Promise<void> {
    try {
      await this.#write(this.#encoder.step(step))
    } catch (error) {
      throw asStateError(error, this.#path)
    }
  }

  /** Begins anew: what the file held is gone. Throws as `append`. */
  async restart(): Promise<void> {
    try {
      await this.#file.truncate(0)
      this.#end = 0
      this.#stepsLeft = 0
      this.#encoder = new TraceEncoder(this.#header)
      await this.#write(this.#encoder.start)
    } catch (error) {
      throw asStateError(error, this.#path)
    }
  }

  /** SHA3-256 (hex) of the whole file as it can be read back. */
  async sha3(): Promise<string> {
    const hash = createHash('sha3-256')
    for await (const chunk of chunksOf(this.#file, this.#end)) hash.update(chunk)
    return hash.digest('hex')
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** Positioned: reading the file back in between changes nothing. */
  async #write(bytes: Uint8Array): Promise<void> {
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await this.#file.write(
        bytes,
        written,
        bytes.length - written,
        this.#end + written,
      )
      written += bytesWritten
    }
    await this.#file.datasync()
    this.#end += bytes.length
  }
}

interface Reopened {
  readonly file: FileHandle
  readonly scanner: TraceScanner
  readonly steps: number
  readonly size: number
}

/** The file at `path`, scanned, when it begins with `start`; null when there is none to go on with. */
async function reopen(path: string, start: Uint8Array): Promise<Reopened | null> {
  let file: FileHandle
  try {
    file = await open(path, 'r+')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  try {
    const { size } = await file.stat()
    const scanner = new TraceScanner()
    let steps = 0
    let isFirst = true
    for await (const chunk of chunksOf(file, size)) {
      if (isFirst && Buffer.compare(chunk.subarray(0, start.length), start) !== 0) return await closed(file)
      isFirst = false
      steps += scanner.push(chunk).length
      if (scanner.fault !== null) break
    }
    return isFirst ? await closed(file) : { file, scanner, steps, size }
  } catch (error) {
    await file.close()
    if (error instanceof GspoError) return null // no trace of this version, or over its limits: a new one takes its place
    throw error
  }
}

async function closed(file: FileHandle): Promise<null> {
  await file.close()
  return null
}

/** The first `size` bytes, in fresh memory. */
async function* chunksOf(file: FileHandle, size: number): AsyncGenerator<Uint8Array> {
  let at = 0
  while (at < size) {
    const chunk = new Uint8Array(Math.min(SCAN_BYTES, size - at))
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at)
    if (bytesRead === 0) return
    at += bytesRead
    yield chunk.subarray(0, bytesRead)
  }
}
