/** Lets many wait for the next change of something, each with its own signal. */

/** `notify` wakes everybody who waits. */
export class ChangeSignal {
  #current = Promise.withResolvers<void>()

  notify(): void {
    const current = this.#current
    this.#current = Promise.withResolvers()
    current.resolve()
  }

  /** Resolves at the next `notify`; rejects with the signal's reason. */
  next(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal?.reason as Error)
      if (signal?.aborted === true) onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      void this.#current.promise.then(() => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
    })
  }
}
