/**
 * A delta file tensor by tensor, in its own order and as often as it takes: tools that need one tensor at a time hold
 * one, whatever the file's size. A signed file must verify before anything is done with it.
 */

import { createReadStream } from 'node:fs'
import { decodeDelta, verifyDelta } from '@gym-node/wire'
import type { DecodedDelta, DeltaDtype, DeltaMetadata, DeltaTensor } from '@gym-node/wire'
import { NodeError } from '../errors.ts'
import { READ_CHUNK_BYTES } from './defaults.ts'
import { requireDeltaFile } from './delta-file.ts'

/** Few system calls and turns of the event loop for large tensors. */
const CHUNKS = { highWaterMark: READ_CHUNK_BYTES }

/** What is known of a tensor without its values. */
export interface TensorRecord {
  readonly name: string
  readonly shape: readonly number[]
  readonly dtype: DeltaDtype
}

/** An open delta file. */
export class DeltaCursor {
  readonly metadata: DeltaMetadata
  /** In the file's order. */
  readonly records: readonly TensorRecord[]
  /** SHA3-256 over the body, hex. */
  readonly bodySha3: string
  readonly isSigned: boolean
  readonly #path: string
  #reading: { delta: DecodedDelta; tensors: AsyncGenerator<DeltaTensor>; next: number } | null = null

  private constructor(
    path: string,
    found: { delta: DecodedDelta; records: readonly TensorRecord[]; bodySha3: string },
  ) {
    this.#path = path
    this.metadata = found.delta.metadata
    this.records = found.records
    this.bodySha3 = found.bodySha3
    this.isSigned = found.delta.header.isSigned
  }

  /**
   * Reads the file through once. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE, VERIFY_FAILED when it is signed
   * and a signature, the binding or the worker's name does not hold; WireError on bytes that are no DELTA file.
   */
  static async open(path: string): Promise<DeltaCursor> {
    const size = await requireDeltaFile(path)
    const delta = await decodeDelta(createReadStream(path, CHUNKS), undefined, 'checksum', size)
    const records: TensorRecord[] = []
    for await (const { name, shape, dtype } of delta.tensors()) records.push({ name, shape, dtype })
    await delta.finish()
    const verdict = await verifyDelta(createReadStream(path, CHUNKS), undefined, size)
    const failed = verdict.checks.find(({ ok }) => !ok)
    if (delta.header.isSigned && failed !== undefined) {
      throw new NodeError(
        'VERIFY_FAILED',
        `${path} is signed, but ${failed.name} does not hold: ${failed.detail}`,
      )
    }
    const bodySha3 = Buffer.from(verdict.bodySha3 ?? new Uint8Array(0)).toString('hex')
    return new DeltaCursor(path, { delta, records, bodySha3 })
  }

  /** Values of the tensor at `index`: in order without a detour, from the file's beginning when that is behind. */
  async values(index: number): Promise<Float32Array> {
    if (this.#reading === null || this.#reading.next > index) {
      await this.close()
      const delta = await decodeDelta(createReadStream(this.#path, CHUNKS), undefined, 'none')
      this.#reading = { delta, tensors: delta.tensors(), next: 0 }
    }
    const reading = this.#reading
    for (;;) {
      const result = await reading.tensors.next()
      if (result.done === true || result.value.name !== this.records[reading.next]?.name)
        throw new NodeError('FILE_UNREADABLE', `${this.#path} changed while it was read`)
      reading.next += 1
      if (reading.next > index) return result.value.values
    }
  }

  /** Closes the file; `values` opens it again. */
  async close(): Promise<void> {
    const reading = this.#reading
    this.#reading = null
    await reading?.delta.close()
  }
}
