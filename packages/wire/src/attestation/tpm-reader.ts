/** Reads TPM-marshalled bytes (big-endian, TPM2B = u16 length then bytes); refuses to read past the end. */

import { WireError } from '../errors.ts'
import { MAX_TPM_STRUCTURE_BYTES } from './tpm-constants.ts'

/** A cursor over one structure; every method throws `WireError('BAD_ATTESTATION')` when bytes are missing. */
export class TpmReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #what: string
  #at = 0

  /** `what` names the structure in error messages. */
  constructor(bytes: Uint8Array, what: string) {
    if (bytes.length > MAX_TPM_STRUCTURE_BYTES) {
      throw new WireError(
        'BAD_ATTESTATION',
        `${what} is ${bytes.length} bytes, the limit is ${MAX_TPM_STRUCTURE_BYTES}`,
      )
    }
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  #take(count: number, field: string): number {
    const at = this.#at
    if (count > this.#bytes.length - at) {
      throw new WireError(
        'BAD_ATTESTATION',
        `${this.#what} ends inside ${field}: ${count} bytes needed at offset ${at}, ${this.#bytes.length - at} left`,
      )
    }
    this.#at = at + count
    return at
  }

  u8(field: string): number {
    return this.#view.getUint8(this.#take(1, field))
  }

  u16(field: string): number {
    return this.#view.getUint16(this.#take(2, field))
  }

  u32(field: string): number {
    return this.#view.getUint32(this.#take(4, field))
  }

  u64(field: string): bigint {
    return this.#view.getBigUint64(this.#take(8, field))
  }

  bytes(count: number, field: string): Uint8Array {
    const at = this.#take(count, field)
    return this.#bytes.subarray(at, at + count)
  }

  /** A TPM2B: a u16 length and that many bytes. */
  sized(field: string): Uint8Array {
    return this.bytes(this.u16(field), field)
  }

  /** Throws unless every byte has been read: a structure with a tail is not the one that was signed. */
  end(): void {
    if (this.#at !== this.#bytes.length) {
      throw new WireError(
        'BAD_ATTESTATION',
        `${this.#what} is ${this.#bytes.length} bytes, but its content ends at ${this.#at}`,
      )
    }
  }
}
