/**
 * Reward functions from a user's own TypeScript or JavaScript module: its default export, one or several. The module
 * lives in a thread of its own: one that never returns is ended at its deadline and loaded afresh for the next call,
 * and neither the engine nor a cancel waits for it.
 */
import { resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { REWARD_STOP_GRACE_MS } from '../defaults.ts'
import { GspoError } from '../errors.ts'
import { RUNNING_CALL, RUNNING_SAMPLE } from './module-protocol.ts'
import type { FromModuleThread, ModuleThreadStart, ToModuleThread } from './module-protocol.ts'
import type { RewardFunction, RewardSample, Score } from './types.ts'

/**
 * Loads the default export of `path`, whose functions share one thread. Throws GspoError BAD_REWARD (missing, does not
 * load within `timeoutMs`, exports something else).
 */
export async function loadRewardModule(path: string, timeoutMs: number): Promise<RewardFunction[]> {
  const thread = new ModuleThread(resolve(path))
  try {
    const rewards = await thread.load(timeoutMs)
    return rewards.map(({ name, deterministic }, place) => ({
      name,
      deterministic,
      endsItself: true,
      score: (samples, { signal }) => thread.score(place, samples, signal),
      close: () => thread.close(),
    }))
  } catch (error) {
    await thread.close()
    throw error
  }
}

/** A call that runs in the thread. */
interface Pending {
  readonly scores: (Score | Error | undefined)[]
  /** Settles it; the error is for every sample without a score. */
  readonly end: (error: string | null) => void
}

/** One module in its thread, started again when it had to be ended. */
class ModuleThread {
  readonly #file: string
  readonly #running = new Int32Array(new SharedArrayBuffer(8))
  readonly #calls = new Map<number, Pending>()
  /** Calls that were told to stop: none is sent before it is known whether the thread lives. */
  readonly #stopping = new Set<Promise<unknown>>()
  #worker: Worker | null = null
  #nextCall = 1

  constructor(file: string) {
    this.#file = file
  }

  /** Starts the thread; what the module exports. */
  async load(timeoutMs: number): Promise<Extract<FromModuleThread, { kind: 'loaded' }>['rewards']> {
    const { promise, resolve: loaded, reject } = Promise.withResolvers<FromModuleThread>()
    const worker = this.#start()
    worker.once('message', loaded)
    worker.once('error', (error: Error) => reject(error))
    worker.once('exit', (code) => reject(new Error(`its thread ended with code ${code}`)))
    const timer = setTimeout(() => reject(new Error(`it did not load within ${timeoutMs} ms`)), timeoutMs)
    try {
      const first = await promise
      if (first.kind === 'loaded') return first.rewards
      throw new GspoError('BAD_REWARD', first.kind === 'refused' ? first.message : `${this.#file}: no module`)
    } catch (cause) {
      if (cause instanceof GspoError) throw cause
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new GspoError('BAD_REWARD', `cannot load the reward module ${this.#file}: ${reason}`, { cause })
    } finally {
      clearTimeout(timer)
      worker.unref()
    }
  }

  /** Scores by the function at `reward`. Ends soon after the signal, whatever the module does. */
  async score(
    reward: number,
    samples: readonly RewardSample[],
    signal: AbortSignal,
  ): Promise<(Score | Error)[]> {
    await Promise.all(this.#stopping)
    const call = this.#nextCall++
    const { promise, resolve: done } = Promise.withResolvers<string | null>()
    const pending: Pending = { scores: [], end: done }
    this.#calls.set(call, pending)
    const worker = this.#worker ?? this.#start()
    worker.ref()
    let grace: NodeJS.Timeout | undefined
    const stop = (): void => {
      this.#stopping.add(promise)
      const reason = signal.reason instanceof Error ? signal.reason.message : String(signal.reason)
      this.#post(worker, { kind: 'stop', call, reason })
      grace = setTimeout(() => this.#endBlocked(worker, reason), REWARD_STOP_GRACE_MS)
    }
    this.#post(worker, { kind: 'score', call, reward, samples })
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    const error = await promise
    clearTimeout(grace)
    signal.removeEventListener('abort', stop)
    this.#stopping.delete(promise)
    this.#calls.delete(call)
    if (this.#calls.size === 0) this.#worker?.unref()
    return samples.map((_, place) => {
      const score = pending.scores[place]
      return score === undefined ? new Error(error ?? 'gave no score') : score
    })
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    this.#endCalls('the trainer is closed')
    await worker?.terminate()
  }

  #start(): Worker {
    // Run from source this file is .ts and so is the thread's; in the build both are .js.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const start: ModuleThreadStart = { file: this.#file, running: this.#running }
    const worker = new Worker(new URL(`./module-thread.${extension}`, import.meta.url), { workerData: start })
    this.#worker = worker
    worker.on('message', (message: FromModuleThread) => this.#receive(message))
    worker.on('error', (error) => this.#died(worker, error instanceof Error ? error.message : String(error)))
    worker.on('exit', (code) => this.#died(worker, `its thread ended with code ${code}`))
    return worker
  }

  #post(worker: Worker, message: ToModuleThread): void {
    worker.postMessage(message)
  }

  #receive(message: FromModuleThread): void {
    switch (message.kind) {
      case 'loaded':
        return
      case 'refused':
        return this.#endCalls(message.message)
      case 'scored': {
        const { call, sample, score } = message
        const pending = this.#calls.get(call)
        if (pending !== undefined)
          pending.scores[sample] =
            typeof score === 'object' && score !== null ? new Error(score.error) : score
        return
      }
      case 'done':
        this.#calls.get(message.call)?.end(message.error)
    }
  }

  /** The thread did not answer: the user's code holds it. What it was running last is to blame; the rest never ran. */
  #endBlocked(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return
    const blamed = this.#calls.get(this.#running[RUNNING_CALL] ?? 0)
    const sample = this.#running[RUNNING_SAMPLE] ?? -1
    const ended =
      'it never gave its thread back, which was ended; the module is loaded afresh for the next call'
    if (blamed !== undefined && sample >= 0) {
      blamed.scores[sample] ??= new Error(`${reason}: ${ended}`)
      blamed.end(`not scored: the function never returned from sample ${sample} of the same call`)
    }
    blamed?.end(`${reason}: ${ended}`)
    this.#worker = null
    this.#endCalls('not scored: another function of the same module never returned')
    void worker.terminate() // resolves when the thread has ended; nothing is left to do then
  }

  #died(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return
    this.#worker = null
    this.#endCalls(`${reason}; the module is loaded afresh for the next call`)
  }

  #endCalls(error: string): void {
    for (const { end } of this.#calls.values()) end(error)
  }
}
