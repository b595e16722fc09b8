/** Runs the view machine: one event at a time, effects in order, nothing sent before what it depends on is durable. */
import { toRingError, type RingError } from '../errors.ts'
import type { ViewStore } from '../types.ts'
import type { ViewMachine } from './machine.ts'
import { encodeDurable } from './store-codec.ts'
import type { Effect, Event } from './state.ts'

/** Where effects go; `persist` is the driver's own. */
export interface DriverHandlers {
  /** the machine's time in ms, which never goes backwards */
  now(): number
  /** the result of a prepared round, to be stored before the promise about it; null when there is nowhere to store it */
  resultBytes(): Uint8Array | null
  onEffect(effect: Exclude<Effect, { do: 'persist' }>): void
  /** after every event: whoever waits for the machine looks again */
  onChanged(): void
  /** the store failed: promises can no longer be kept, so nothing more may be said */
  onBroken(error: RingError): void
}

/** The machine's only caller. */
export class ViewDriver {
  readonly machine: ViewMachine
  readonly #store: ViewStore
  readonly #handlers: DriverHandlers
  readonly #queue: { event: Event; done: () => void }[] = []
  #running = false
  #broken = false

  constructor(machine: ViewMachine, store: ViewStore, handlers: DriverHandlers) {
    this.machine = machine
    this.#store = store
    this.#handlers = handlers
  }

  /** Queues an event; resolves when its effects are done. */
  post(event: Event): Promise<void> {
    return new Promise((resolve) => {
      this.#queue.push({ event, done: resolve })
      if (!this.#running) void this.#run()
    })
  }

  /** Stops taking events; those still queued are dropped. */
  halt(): void {
    this.#broken = true
  }

  async #persist({ durable, withResult }: Extract<Effect, { do: 'persist' }>): Promise<void> {
    if (withResult && this.#store.saveResult !== undefined) {
      const bytes = this.#handlers.resultBytes()
      if (bytes !== null) await this.#store.saveResult(bytes)
    }
    await this.#store.save(encodeDurable(durable))
  }

  async #run(): Promise<void> {
    this.#running = true
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      if (!this.#broken) await this.#step(next.event)
      next.done()
    }
    this.#running = false
  }

  async #step(event: Event): Promise<void> {
    try {
      for (const effect of this.machine.handle(event, this.#handlers.now())) {
        if (effect.do === 'persist') await this.#persist(effect)
        else this.#handlers.onEffect(effect)
      }
    } catch (thrown) {
      this.#broken = true
      this.#handlers.onBroken(toRingError(thrown, 'BAD_STORE', 'the view protocol cannot go on'))
    }
    this.#handlers.onChanged()
  }
}
