/**
 * What passes through a relay, counted and held back. libp2p joins two streams without back-pressure: what one end does
 * not take piles up in the relay's memory. Here every stream is paused while too much of what it brought has not left
 * yet, or while all together have used up the relay's rate.
 */
import type { Libp2p, Stream, StreamMiddleware } from '@libp2p/interface'

/** A stream that brought more than this beyond what has left is paused; it goes on below half of it. */
export const RELAY_WAITING_BYTES = 1024 * 1024

/** How much of the rate may be used at once: a quarter of a second. */
const BURST_MS = 250

/** Counters since start, and what is open now. */
export interface RelayTrafficStatus {
  /** bytes brought by one end of a relayed connection for the other */
  readonly bytes: number
  /** bytes that have come and not left yet */
  readonly waitingBytes: number
  /** relayed streams open now; a relayed connection has two */
  readonly streams: number
  /** how often a stream was paused, for its receiver or for the rate */
  readonly pauses: number
}

interface Watched {
  readonly stream: Stream
  waiting: number
  isPaused: boolean
}

/** Counts and paces streams. */
export class RelayTraffic {
  readonly #bytesPerMs: number | null
  readonly #now: () => number
  readonly #streams = new Set<Watched>()
  /** who brought a piece; libp2p hands the same object on */
  readonly #broughtBy = new WeakMap<object, Watched>()
  #bytes = 0
  #pauses = 0
  #budget: number
  #budgetAt: number
  #timer: NodeJS.Timeout | null = null

  /** `bytesPerSecond`: of all relayed streams together; null for no limit. */
  constructor(bytesPerSecond: number | null, now = (): number => performance.now()) {
    this.#bytesPerMs = bytesPerSecond === null ? null : bytesPerSecond / 1000
    this.#now = now
    this.#budget = (this.#bytesPerMs ?? 0) * BURST_MS
    this.#budgetAt = now()
  }

  get status(): RelayTrafficStatus {
    let waitingBytes = 0
    for (const { waiting } of this.#streams) waitingBytes += waiting
    return { bytes: this.#bytes, waitingBytes, streams: this.#streams.size, pauses: this.#pauses }
  }

  /** Watches all streams of a protocol from now on. */
  watchProtocol(node: Pick<Libp2p, 'use'>, protocol: string): void {
    const watch: StreamMiddleware = (stream, connection, next) => {
      register()
      this.watch(stream)
      next(stream, connection)
    }
    // libp2p 3.3 appends the handler of every incoming stream to the very array that it was given: a fresh one for each.
    const register = (): void => node.use(protocol, [watch])
    register()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** Counts and paces one stream. */
  watch(stream: Stream): void {
    const watched: Watched = { stream, waiting: 0, isPaused: false }
    this.#streams.add(watched)
    stream.addEventListener('close', () => this.#streams.delete(watched), { once: true })
    stream.addEventListener('message', ({ data }) => {
      this.#broughtBy.set(data, watched)
      watched.waiting += data.byteLength
      this.#bytes += data.byteLength
      this.#spend(data.byteLength)
      if (this.#mustWait(watched)) this.#pause(watched)
    })
    const send = stream.send.bind(stream)
    stream.send = (data) => {
      const source = this.#broughtBy.get(data)
      if (source !== undefined) {
        this.#broughtBy.delete(data)
        source.waiting -= data.byteLength
        if (source.isPaused) this.#resumeLater()
      }
      return send(data)
    }
  }

  #mustWait({ waiting }: Watched): boolean {
    return waiting > RELAY_WAITING_BYTES || (this.#bytesPerMs !== null && this.#budget < 0)
  }

  /** Not within the event that brought the bytes: libp2p resumes a stream while it dispatches them. */
  #pause(watched: Watched): void {
    if (watched.isPaused) return
    watched.isPaused = true
    this.#pauses += 1
    setImmediate(() => {
      if (watched.isPaused) tell(watched.stream, 'pause')
      this.#resumeLater()
    })
  }

  /** Looks again when there is something to spend, or at once when something has left. */
  #resumeLater(): void {
    if (this.#timer !== null) return
    this.#refill()
    const debt = this.#bytesPerMs === null ? 0 : Math.max(0, -this.#budget)
    const ms = debt === 0 ? 1 : Math.ceil(debt / (this.#bytesPerMs ?? 1))
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#resume()
    }, ms)
  }

  #resume(): void {
    this.#refill()
    for (const watched of this.#streams) {
      if (!watched.isPaused) continue
      if (this.#bytesPerMs !== null && this.#budget < 0) {
        this.#resumeLater()
        return
      }
      if (watched.waiting > RELAY_WAITING_BYTES / 2) continue
      watched.isPaused = false
      // Moves to the end: the next time another one is first.
      this.#streams.delete(watched)
      this.#streams.add(watched)
      tell(watched.stream, 'resume')
    }
  }

  #spend(bytes: number): void {
    this.#refill()
    this.#budget -= bytes
  }

  #refill(): void {
    if (this.#bytesPerMs === null) return
    const now = this.#now()
    const most = this.#bytesPerMs * BURST_MS
    this.#budget = Math.min(most, this.#budget + (now - this.#budgetAt) * this.#bytesPerMs)
    this.#budgetAt = now
  }
}

/** A stream whose reading end is closing takes neither, by an error; its end is reported by an event. */
function tell(stream: Stream, what: 'pause' | 'resume'): void {
  if (stream.readStatus === 'readable' || stream.readStatus === 'paused') stream[what]()
}
