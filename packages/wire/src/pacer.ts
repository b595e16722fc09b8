/** Lets other work run while many bytes are hashed or packed on this thread: awaiting alone never leaves it. */
import { setImmediate } from 'node:timers/promises'
import { YIELD_BYTES } from './defaults.ts'

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
