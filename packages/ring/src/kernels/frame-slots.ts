/**
 * Places in the kernels' memory where a chunk comes, is worked on, sealed and sent without being moved. One is used again
 * and again while it is in cache; another takes its turn while the kernel has not taken all of the first.
 */
import { FRAME_HEADER_BYTES, FRAME_TAG_BYTES, frameBytes } from '@gym-node/wire'

/** One that comes, one that goes, and one that waits to go on another lane. */
const SLOTS = 3

/** Wire bytes begin here in a slot: behind the header, and where a line of cache begins. */
const PAYLOAD_AT = 64

/** A frame's memory, whose middle is the payload; it is the borrower's until `release`. */
export interface LentFrame {
  readonly frame: Uint8Array
  readonly release: () => void
}

/** Bytes that the slots for payloads of up to `payloadBytes` take, in whole pages. */
export function slotsBytes(payloadBytes: number): number {
  return SLOTS * strideOf(payloadBytes)
}

/** `memory` is all of the kernels' memory, in which the slots begin at `start`, a multiple of 64. */
export class FrameSlots {
  readonly #memory: Uint8Array
  readonly #start: number
  readonly #stride: number
  readonly #isLent = Array.from({ length: SLOTS }, () => false)
  #current = 0

  constructor(memory: Uint8Array, start: number, payloadBytes: number) {
    this.#memory = memory
    this.#start = start
    this.#stride = strideOf(payloadBytes)
  }

  /** Address of the wire bytes that are worked on, until the next `begin`. */
  get at(): number {
    return this.#start + this.#current * this.#stride + PAYLOAD_AT
  }

  /** Turns to the first slot that is not lent: what the last one held is done with. */
  begin(): void {
    this.#current = this.#isLent.indexOf(false)
  }

  /** The frame around `payload`, if that lies at `at` and there is another slot to go on with. */
  lend(payload: Uint8Array): LentFrame | null {
    const slot = this.#current
    const isHere = payload.buffer === this.#memory.buffer && payload.byteOffset === this.at
    if (!isHere || !this.#isLent.some((isLent, other) => !isLent && other !== slot)) return null
    this.#isLent[slot] = true
    const begin = this.at - FRAME_HEADER_BYTES
    return {
      frame: this.#memory.subarray(begin, begin + frameBytes(payload.byteLength)),
      release: () => {
        this.#isLent[slot] = false
      },
    }
  }
}

function strideOf(payloadBytes: number): number {
  return Math.ceil((PAYLOAD_AT + payloadBytes + FRAME_TAG_BYTES) / 4096) * 4096
}
