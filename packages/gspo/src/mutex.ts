/** Runs asynchronous calls one after another, in the order they were made. */

/** A queue of calls; a failed call does not stop the next one. */
export interface Mutex {
  run<T>(call: () => Promise<T>): Promise<T>
}

/** An empty queue. */
export function createMutex(): Mutex {
  let tail: Promise<unknown> = Promise.resolve()
  return {
    run<T>(call: () => Promise<T>): Promise<T> {
      const result = tail.then(call)
      tail = result.catch(() => undefined) // the caller gets the failure; the queue only needs the end
      return result
    },
  }
}
