/**
 * SHA3-256 on a thread of its own, for large files: the hash is what reading them costs most, and here it runs while
 * the caller unpacks. Bytes go over in shared slots of 1 MiB, so that no more than 8 of them wait. The threads start
 * with the first large file, are kept for the next, and never keep a process alive on their own.
 */
import { Worker } from 'node:worker_threads'
import { HASH_SLOT_BYTES, HASH_SLOTS, THREADED_HASH_BYTES } from './defaults.ts'
import { WireError } from './errors.ts'
import { sha3_256Stream } from './hash.ts'

/** A hash that may ask its caller to wait. */
export interface PacedHash {
  /** Takes bytes, which the caller may change as soon as this has returned or resolved. */
  update(bytes: Uint8Array): Promise<void> | undefined
  /** 32 bytes; once, and no update after it. */
  digest(): Promise<Uint8Array>
  /** Gives up: there will be no digest. */
  drop(): void
}

/**
 * SHA3-256 of about `expectedBytes` bytes: on a thread when they are many and it is free, else here. `lane` 0 or 1: two
 * hashes of one file run side by side.
 */
export function pacedSha3_256(expectedBytes: number, lane: 0 | 1): PacedHash {
  if (expectedBytes < THREADED_HASH_BYTES) return hashHere()
  lanes[lane] ??= new HashThread(() => {
    lanes[lane] = null
  })
  return lanes[lane].open() ?? hashHere()
}

function hashHere(): PacedHash {
  const hash = sha3_256Stream()
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => Promise.resolve(hash.digest()),
    drop: () => undefined,
  }
}

const lanes: [HashThread | null, HashThread | null] = [null, null]

/** Runs in the thread: one hash at a time, slots handed back when they are hashed. Plain JavaScript, as it has no file. */
const THREAD = `
const { parentPort, workerData } = require('node:worker_threads')
const { createHash } = require('node:crypto')
let hash = null
parentPort.on('message', ({ kind, slot, length }) => {
  if (kind === 'open') hash = createHash('sha3-256')
  else if (kind === 'digest') parentPort.postMessage({ digest: hash.digest() })
  else {
    hash.update(new Uint8Array(workerData.slots[slot], 0, length))
    parentPort.postMessage({ slot })
  }
})`

class HashThread {
  readonly #worker: Worker
  readonly #slots: readonly SharedArrayBuffer[]
  readonly #free: number[]
  #isOpen = false
  #failure: WireError | null = null
  /** What the one open hash waits for. */
  #slotFreed: PromiseWithResolvers<void> | null = null
  #digest: PromiseWithResolvers<Uint8Array> | null = null

  constructor(onFailed: () => void) {
    this.#slots = Array.from({ length: HASH_SLOTS }, () => new SharedArrayBuffer(HASH_SLOT_BYTES))
    this.#free = this.#slots.map((_, slot) => slot)
    this.#worker = new Worker(THREAD, { eval: true, workerData: { slots: this.#slots } })
    this.#worker.unref()
    this.#worker.on('message', ({ slot, digest }: { slot?: number; digest?: Uint8Array }) => {
      if (digest !== undefined) this.#digest?.resolve(new Uint8Array(digest))
      if (slot === undefined) return
      this.#free.push(slot)
      this.#slotFreed?.resolve()
      this.#slotFreed = null
    })
    this.#worker.once('error', (cause: Error) => {
      onFailed()
      this.#failure = new WireError('BAD_STATE', `the hash thread ended: ${cause.message}`, { cause })
      this.#slotFreed?.reject(this.#failure)
      this.#digest?.reject(this.#failure)
    })
  }

  /** A new hash; null while another one is open. */
  open(): PacedHash | null {
    if (this.#isOpen) return null
    this.#isOpen = true
    this.#worker.postMessage({ kind: 'open' })
    let slot: number | null = null
    let filled = 0
    const send = (): void => {
      if (slot !== null) this.#worker.postMessage({ kind: 'update', slot, length: filled })
      slot = null
      filled = 0
    }
    /** Copies what fits from `at` on; returns how much. */
    const fill = (bytes: Uint8Array, at: number): number => {
      slot ??= this.#free.pop() ?? null
      if (slot === null) return 0
      const length = Math.min(HASH_SLOT_BYTES - filled, bytes.length - at)
      new Uint8Array(this.#slots[slot] ?? []).set(bytes.subarray(at, at + length), filled)
      filled += length
      if (filled === HASH_SLOT_BYTES) send()
      return length
    }
    const fillSlowly = async (bytes: Uint8Array, from: number): Promise<void> => {
      for (let at = from; at < bytes.length;) {
        const length = fill(bytes, at)
        if (length === 0) {
          this.#slotFreed = Promise.withResolvers()
          await this.#awaited(this.#slotFreed.promise)
        }
        at += length
      }
    }
    let isOver = false
    const close = (): void => {
      // Once: by the second time the thread may be hashing another file.
      if (!isOver) this.#isOpen = false
      isOver = true
    }
    return {
      update: (bytes) => {
        for (let at = 0; at < bytes.length;) {
          const length = fill(bytes, at)
          if (length === 0) return fillSlowly(bytes, at)
          at += length
        }
        return undefined
      },
      digest: async () => {
        send()
        this.#digest = Promise.withResolvers()
        this.#worker.postMessage({ kind: 'digest' })
        try {
          return await this.#awaited(this.#digest.promise)
        } finally {
          close()
        }
      },
      drop: () => {
        if (!isOver) send()
        close()
      },
    }
  }

  /** Keeps the process alive for this wait, and only for it: the thread itself does not. */
  async #awaited<T>(wait: Promise<T>): Promise<T> {
    if (this.#failure !== null) throw this.#failure
    this.#worker.ref()
    try {
      return await wait
    } finally {
      this.#worker.unref()
    }
  }
}
