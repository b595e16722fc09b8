/** A virtual clock: runs callbacks in order of time, as fast as the machine can. */
interface Timer {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

export class VirtualClock {
  now = 0
  #order = 0
  readonly #heap: Timer[] = []

  after(ms: number, run: () => void): void {
    this.#push({ at: this.now + Math.max(0, ms), order: this.#order++, run })
  }

  /** Runs everything due until `time`. */
  runUntil(time: number): void {
    for (let first = this.#heap[0]; first !== undefined && first.at <= time; first = this.#heap[0]) {
      this.#pop()
      this.now = first.at
      first.run()
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
