/**
 * `gym-node ring`: starts real daemons on this machine, watches them to their last round, and measures what was
 * learned. It trains nothing itself: without it, the same daemons on several machines do the same.
 */
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { stringify } from 'yaml'
import { loopShape } from '../config/schema.ts'
import { ROUND_STALL_MS } from '../defaults.ts'
import { messageOf, NodeError } from '../errors.ts'
import { listenForStop } from '../signals.ts'
import { writeFileDurably } from '../state/atomic.ts'
import { loadCheckpoint } from '../state/checkpoint.ts'
import { statePaths } from '../state/folder.ts'
import { Evaluator, type Accuracy } from './evaluation.ts'
import { NodeProcess, type NodeEnding } from './node-process.ts'
import { readRingOrder, type RingFlags, type RingOrder } from './options.ts'
import { createReporter, type Reporter } from './reporter.ts'
import { applyMessage, applyValidatorMessage, createRunModel, type RunModel } from './run-model.ts'
import { nodeConfig, validatorConfig } from './daemon-config.ts'
import { summarize, summaryText, type RingSummary } from './summary.ts'

/** Runs the whole command and answers its summary. Throws NodeError, or what the evaluation threw. */
export async function runRing(flags: RingFlags): Promise<RingSummary> {
  const order = await readRingOrder(flags)
  const startedAt = performance.now()
  const reporter = createReporter(
    order.json,
    `${basename(order.model)} · ${order.nodes} ${order.nodes === 1 ? 'node' : 'nodes'}`,
    process.stdout,
  )
  const signals = listenForStop(() => reporter.note('stopping, the same signal again ends at once'))
  await using closing = new AsyncDisposableStack()
  closing.defer(() => signals.release())
  const run = createRunModel(order.nodes, order.rounds, order.hasValidator)
  const stateDirs = run.nodes.map((node) => join(order.out, `node-${node.index}`))
  let before: Accuracy | null = null
  let after: Accuracy | null = null
  let adapterDir: string | null = null
  const stop = signals.signal
  try {
    reporter.note(`evaluates the base model ${order.model}`)
    await using evaluator = await openEvaluator(order, stop)
    before = await evaluator.evaluate(stop)
    if (before !== null) reporter.evaluated('before', before)
    await new RingRun(order, run, stateDirs, reporter).untilDone(stop)
    stop.throwIfAborted()
    const adapter = await readFinalAdapter(run, stateDirs)
    if (adapter !== null) {
      reporter.note('evaluates the trained adapter')
      await evaluator.useAdapter(adapter)
      after = await evaluator.evaluate(stop)
      if (after !== null) reporter.evaluated('after', after)
      adapterDir = join(order.out, 'adapter')
      await evaluator.exportAdapter(adapterDir)
    }
  } catch (error) {
    if (!stop.aborted) throw error
  }
  const seconds = (performance.now() - startedAt) / 1_000
  const summary = summarize(run, {
    order,
    seconds,
    interrupted: stop.aborted,
    before,
    after,
    adapterDir,
    stateDirs,
  })
  const file = join(order.out, 'summary.json')
  await writeFileDurably(file, `${JSON.stringify(summary, null, 2)}\n`, 0o644)
  reporter.summary(summary, summaryText(summary, file))
  if (summary.rounds === 0 && !summary.interrupted) {
    const reasons = [...new Set(run.nodes.map((node) => node.ending).filter((ending) => ending !== null))]
    throw new NodeError(
      'NODES_FAILED',
      `no round was committed: ${reasons.join('; ') || 'all daemons ended'}; logs: ${stateDirs.map((dir) => `${dir}.log`).join(', ')}`,
    )
  }
  if (!summary.adapters_agree) throw new NodeError('NODES_FAILED', `the nodes' adapters differ, see ${file}`)
  return summary
}

/** The daemons of one run, from the first start to the last exit. */
class RingRun {
  readonly #order: RingOrder
  readonly #run: RunModel
  readonly #stateDirs: readonly string[]
  readonly #reporter: Reporter
  readonly #processes = new Map<number, NodeProcess>()
  readonly #listening: PromiseWithResolvers<void>[]
  #validator: NodeProcess | null = null
  #validatorStopped: Promise<unknown> | null = null
  #stall: NodeJS.Timeout | undefined

  constructor(order: RingOrder, run: RunModel, stateDirs: readonly string[], reporter: Reporter) {
    this.#order = order
    this.#run = run
    this.#stateDirs = stateDirs
    this.#reporter = reporter
    this.#listening = run.nodes.map(() => Promise.withResolvers<void>())
  }

  /** Starts the daemons and resolves when all have ended; `stop` asks them to stop. */
  async untilDone(stop: AbortSignal): Promise<void> {
    const stopAll = (): void => void this.#stopAll()
    stop.addEventListener('abort', stopAll, { once: true })
    this.#reporter.begin(this.#run)
    try {
      const endings = [await this.#start(0, [])]
      // The others find the ring through the first, so its address must be known.
      await Promise.race([this.#listening[0]?.promise, endings[0]?.ended])
      const bootstrap = this.#run.nodes[0]?.addresses ?? []
      if (bootstrap.length > 0) {
        for (let index = 1; index < this.#order.nodes && !stop.aborted; index++)
          endings.push(await this.#start(index, bootstrap))
        if (this.#order.hasValidator && !stop.aborted) await this.#startValidator(bootstrap)
      }
      if (stop.aborted) await this.#stopAll()
      await Promise.all(endings.map(({ ended }) => ended))
    } finally {
      stop.removeEventListener('abort', stopAll)
      clearTimeout(this.#stall)
      await this.#stopAll()
      this.#reporter.finish()
    }
  }

  async #start(index: number, bootstrap: readonly string[]): Promise<{ ended: Promise<void> }> {
    const stateDir = this.#stateDirs[index] ?? ''
    const configFile = `${stateDir}.yaml`
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    await writeFileDurably(configFile, stringify(nodeConfig(this.#order, index, bootstrap, stateDir)), 0o644)
    const child = await NodeProcess.start(['--config', configFile], `${stateDir}.log`, (message) => {
      applyMessage(this.#run, index, message)
      if (message.type === 'listening') this.#listening[index]?.resolve()
      if (message.type === 'event' && (message.event.type === 'round' || message.event.type === 'step'))
        this.#watchForStall()
      this.#reporter.message(index, message)
      // Whoever has taken its last round leaves, and cannot be audited any more.
      if (message.type === 'event' && message.event.type === 'round')
        if (message.event.round.round >= this.#order.rounds) void this.#stopValidator()
    })
    this.#processes.set(index, child)
    return { ended: child.ended.then((ending) => this.#onEnded(index, ending)) }
  }

  async #startValidator(bootstrap: readonly string[]): Promise<void> {
    const stateDir = join(this.#order.out, 'validator')
    const configFile = `${stateDir}.yaml`
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    await writeFileDurably(configFile, stringify(validatorConfig(this.#order, bootstrap, stateDir)), 0o644)
    this.#validator = await NodeProcess.start(['--config', configFile], `${stateDir}.log`, (message) => {
      applyValidatorMessage(this.#run, message)
      this.#reporter.validatorMessage(message)
    })
    void this.#validator.ended.then(({ exitCode, signal }) => {
      const { validator } = this.#run
      if (validator === null) return
      validator.state = 'gone'
      if (exitCode !== 0)
        validator.ending ??= `ended by ${signal ?? `code ${exitCode ?? 'unknown'}`}, log ${stateDir}.log`
    }) // `ended` never rejects
  }

  #onEnded(index: number, ending: NodeEnding): void {
    this.#processes.delete(index)
    const node = this.#run.nodes[index]
    if (node === undefined) return
    node.state = 'gone'
    if (ending.exitCode !== 0)
      node.ending ??=
        ending.signal === null
          ? `exited with code ${ending.exitCode ?? 'unknown'}`
          : `was killed by ${ending.signal}`
    this.#reporter.ended(index, node.ending ?? 'done')
  }

  /** A ring that lost its majority waits for ever; a run must end. */
  #watchForStall(): void {
    clearTimeout(this.#stall)
    this.#stall = setTimeout(() => {
      if (this.#processes.size === this.#order.nodes) return
      this.#reporter.note('the daemons that are left have no majority, stopping them')
      void this.#stopAll()
    }, ROUND_STALL_MS)
  }

  async #stopAll(): Promise<void> {
    await Promise.all([...[...this.#processes.values()].map((child) => child.stop()), this.#stopValidator()])
  }

  /** Once: a second signal would end it in the middle of its stop. */
  #stopValidator(): Promise<unknown> {
    return (this.#validatorStopped ??= this.#validator?.stop() ?? Promise.resolve())
  }
}

/** Evaluates where there is a held-out set; exports adapters in any case. */
interface RunEvaluator extends AsyncDisposable {
  evaluate(signal: AbortSignal): Promise<Accuracy | null>
  useAdapter(adapter: Float32Array): Promise<void>
  exportAdapter(folder: string): Promise<void>
}

async function openEvaluator(order: RingOrder, stop: AbortSignal): Promise<RunEvaluator> {
  const train = Object.fromEntries(Object.entries(order.train).filter(([key]) => !(key in loopShape)))
  const config = {
    ...train,
    model: order.model,
    dataset: order.dataset,
    threads: order.evaluationThreads,
    seed: order.seed,
  }
  const evaluator = await Evaluator.open(config, order.testDataset ?? order.dataset, stop)
  return {
    evaluate: (signal) => (order.testDataset === null ? Promise.resolve(null) : evaluator.evaluate(signal)),
    useAdapter: (adapter) => evaluator.useAdapter(adapter),
    exportAdapter: (folder) => evaluator.exportAdapter(folder),
    [Symbol.asyncDispose]: () => evaluator.close(),
  }
}

/** The adapter of the last round that any node has committed to its checkpoint; null when there is none. */
async function readFinalAdapter(run: RunModel, stateDirs: readonly string[]): Promise<Float32Array | null> {
  let best: { round: number; adapter: Float32Array } | null = null
  for (const node of run.nodes) {
    try {
      const checkpoint = await loadCheckpoint(statePaths(stateDirs[node.index] ?? '').checkpoint)
      if (checkpoint !== null && checkpoint.shared.round > (best?.round ?? 0)) best = checkpoint.shared
    } catch (error) {
      node.ending ??= messageOf(error) // one damaged checkpoint must not hide the good ones
    }
  }
  return best?.adapter ?? null
}
