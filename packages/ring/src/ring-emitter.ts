/** Listeners of a ring. A listener that throws is a bug of its owner and surfaces as an uncaught exception. */
import type { RingEvents } from './types.ts'

type Listeners = { [E in keyof RingEvents]: Set<(value: RingEvents[E]) => void> }

/** A typed set of listeners per event. */
export class RingEmitter {
  readonly #listeners: Listeners = {
    view: new Set(),
    round: new Set(),
    peer: new Set(),
    reachability: new Set(),
    error: new Set(),
  }

  /** Adds a listener; the returned function removes it. */
  on<E extends keyof RingEvents>(event: E, listener: (value: RingEvents[E]) => void): () => void {
    this.#listeners[event].add(listener)
    return () => {
      this.#listeners[event].delete(listener)
    }
  }

  /** Calls the listeners, each on its own microtask: the ring's own work is not in their hands. */
  emit<E extends keyof RingEvents>(event: E, value: RingEvents[E]): void {
    for (const listener of this.#listeners[event]) queueMicrotask(() => listener(value))
  }
}
