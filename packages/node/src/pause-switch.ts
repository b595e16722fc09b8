/** The pause switch of a daemon: a signal that says "at the next boundary", and a wait until somebody resumes. */

/** Starts in the position "running". */
export class PauseSwitch {
  #controller = new AbortController()
  #resumed = Promise.withResolvers<void>()

  /** Aborted while paused; a new signal after each resume. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  pause(): void {
    if (this.#controller.signal.aborted) return
    this.#resumed = Promise.withResolvers<void>()
    this.#controller.abort(new Error('paused'))
  }

  resume(): void {
    if (!this.#controller.signal.aborted) return
    this.#controller = new AbortController()
    this.#resumed.resolve()
  }

  /** Resolves at once when running; rejects with the reason of `stop`. */
  async untilResumed(stop: AbortSignal): Promise<void> {
    if (!this.#controller.signal.aborted) return
    const stopped = Promise.withResolvers<never>()
    const onStop = (): void => stopped.reject(stop.reason as Error)
    if (stop.aborted) onStop()
    stop.addEventListener('abort', onStop, { once: true })
    try {
      await Promise.race([this.#resumed.promise, stopped.promise])
    } finally {
      stop.removeEventListener('abort', onStop)
    }
  }
}
