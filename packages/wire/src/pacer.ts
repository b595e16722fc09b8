/** Lets other work run while many bytes are hashed or packed on this thread: awaiting alone never leaves it. */
import { setImmediate } from 'node:timers/promises'
import { YIELD_BYTES } from './defaults.ts'
import { sha3_256Stream } from './hash.ts'

/** Counts bytes and gives the event loop a turn after every 4 MiB of them. */
export class Pacer {
  #bytes = 0

  /** Call after work on `bytes` bytes. */
  async spend(bytes: number): Promise<void> {
    this.#bytes += bytes
    if (this.#bytes < YIELD_BYTES) return
    this.#bytes = 0
    await setImmediate()
  }
}

/** SHA3-256 of the parts one after another, giving the event loop a turn after every 4 MiB. */
export async function sha3_256Paced(...parts: Uint8Array[]): Promise<Uint8Array> {
  const hash = sha3_256Stream()
  for (const part of parts) {
    for (let i = 0; i < part.length; i += YIELD_BYTES) {
      hash.update(part.subarray(i, i + YIELD_BYTES))
      if (part.length - i > YIELD_BYTES) await setImmediate()
    }
  }
  return hash.digest()
}
