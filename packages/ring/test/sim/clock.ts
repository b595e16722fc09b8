/**
 * A virtual clock: runs callbacks in order of time, as fast as the machine can. What is due later than this millisecond
 * waits unsorted: a ring of a thousand has millions of messages on their way.
 */
interface Timer {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export class VirtualClock {
  now = 0
  #order = 0
  /** the millisecond whose timers are in the heap, with those of all before it */
  #current = 0
  readonly #heap: Timer[] = []
  readonly #later = new Map<number, Timer[]>()

  after(ms: number, run: () => void): void {
    const timer = { at: this.now + Math.max(0, ms), order: this.#order++, run }
    const slot = Math.floor(timer.at)
    if (slot <= this.#current) {
      this.#push(timer)
      return
    }
    const waiting = this.#later.get(slot)
    if (waiting === undefined) this.#later.set(slot, [timer])
    else waiting.push(timer)
  }

  /** Runs everything due until `time`. */
  runUntil(time: number): void {
    for (;;) {
      for (let first = this.#heap[0]; first !== undefined && first.at <= time; first = this.#heap[0]) {
        this.#pop()
        this.now = first.at
        first.run()
      }
      if (this.#current >= Math.floor(time)) break
      this.#current += 1
      const due = this.#later.get(this.#current) ?? []
      this.#later.delete(this.#current)
      for (const timer of due) this.#push(timer)
    }
    this.now = time
  }

  #push(timer: Timer): void {
    const heap = this.#heap
    let i = heap.push(timer) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (before(heap[parent], timer)) break
      heap[i] = heap[parent]
      i = parent
    }
    heap[i] = timer
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child += 1
      if (before(last, heap[child])) break
      heap[i] = heap[child]
      i = child
    }
    heap[i] = last
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at
}
