/** The role `worker`: engine, state and rounds. The ring opens and closes around every stretch without a pause. */
import { loraScale, type ResolvedConfig } from '@gym-node/gspo'
import type { Identity } from '@gym-node/wire'
import { openVerdicts, serveFilesAndVerdicts } from './audits.ts'
import type { NodeConfig } from './config/schema.ts'
import { trainerSettings } from './config/trainer-settings.ts'
import { STOP_GRACE_MS } from './defaults.ts'
import { Engine } from './engine.ts'
import { messageOf, NodeError } from './errors.ts'
import { runLoop, type LoopEnd } from './loop.ts'
import { openRing, type Running } from './running.ts'
import { DeltaStore } from './state/delta-store.ts'
import { initialState, JobState } from './state/job-state.ts'
import { EXTRA_RECORDS_KEPT } from './validate/defaults.ts'
import { writeRoundRecord } from './validate/round-records.ts'
import { workerSeed } from './validate/worker-seed.ts'

/** Trains until the signal, the limit of rounds, or an error. */
export async function runWorker(running: Running): Promise<void> {
  const { config, log, stop } = running.options
  running.enter('starting', 'loads the model')
  const trainerConfig = trainerConfigOf(config, running.identity)
  await using closing = new AsyncDisposableStack()
  const { engine, checkpoint } = await Engine.start({
    config: trainerConfig,
    checkpointPath: running.paths.checkpoint,
    signal: stop,
    onDeath: (error) => reportDeath(running, error),
  })
  closing.defer(() => engine.close())
  const { info } = engine.trainer
  running.board.useTrainer(info)
  const outer = {
    kind: config.train.outer.kind,
    learningRate: config.train.outer.learning_rate,
    momentum: config.train.outer.momentum,
  }
  const first = initialState({
    baseSha256: info.model.sha256,
    layout: info.adapterLayout,
    adapterScale: loraScale({
      rank: trainerConfig.lora_rank,
      alpha: trainerConfig.lora_alpha,
      targets: trainerConfig.lora_targets,
      useRslora: trainerConfig.use_rslora,
    }),
    adapter: await engine.trainer.readAdapter(),
    outer,
  })
  const state = new JobState({
    state: first,
    outer,
    install: (next, residual) => engine.install(next, residual),
    onAdopted: (round) => {
      log.info({ round }, 'took over the state of the ring')
      running.board.setRound(round)
    },
  })
  if (checkpoint !== null) state.resume(checkpoint.shared, checkpoint.residual)
  running.board.setRound(state.round)
  const deltas = await DeltaStore.open({
    paths: running.paths,
    identity: running.identity,
    config,
    trainerConfig,
    info,
    emit: running.emit,
  })
  log[info.engineNote.isWarning ? 'warn' : 'info']({ engine: info.engine }, info.engineNote.text)
  log.info(
    {
      engine: info.engine,
      architecture: info.model.architecture,
      parameters: info.model.parameters,
      trainable: info.trainable,
      dataset: info.datasetSize,
      round: state.round,
    },
    checkpoint === null ? 'model loaded' : 'model loaded, resuming',
  )

  const verdicts = await openVerdicts(running)

  for (;;) {
    const end = await trainInRing(running, engine, state, deltas, verdicts)
    if (end !== 'paused') return
    running.enter('paused', 'paused by its operator, out of the ring until it is resumed')
    await running.pause.untilResumed(stop)
  }
}

/** One stretch in the ring: until the loop ends, with the engine started again when it dies. */
async function trainInRing(
  running: Running,
  engine: Engine,
  state: JobState,
  deltas: DeltaStore,
  verdicts: Awaited<ReturnType<typeof openVerdicts>>,
): Promise<LoopEnd> {
  const { config, stop } = running.options
  await using closing = new AsyncDisposableStack()
  const ring = await openRing(running, state, 'member')
  closing.defer(() => ring.stop())
  let storeFailure: unknown
  // Calls that come after it learn only that the ring has stopped; a full disk must reach the operator as one.
  ring.on('error', ({ code, cause }) => {
    if (code === 'BAD_STORE' && cause instanceof NodeError) storeFailure ??= cause
  })
  running.board.useRing(ring)
  closing.defer(await serveFilesAndVerdicts(running, ring, verdicts))
  const abandon = abandonAfterGrace(stop, () => ring.status.activeRound !== null)
  closing.defer(() => abandon.release())
  for (;;) {
    try {
      const end = await runLoop({
        ring,
        trainer: engine.trainer,
        state,
        aggregateInterval: config.train.aggregate_interval,
        overlap: config.train.overlap,
        minMembers: config.ring.min_members,
        get rounds() {
          return config.train.rounds // may change while the daemon runs
        },
        openTrace: (round, stateBefore) => deltas.openTrace(round, stateBefore),
        writeDelta: (delta) => deltas.write(delta, stop),
        recordRound: (record) =>
          writeRoundRecord(running.paths.traces, record, config.train.trace_keep_rounds + EXTRA_RECORDS_KEPT),
        emit: running.emit,
        stop,
        abandon: abandon.signal,
        pause: running.pause.signal,
      })
      if (end === 'stopped') running.enter('stopping', 'asked to stop')
      if (end === 'limit') running.enter('stopping', `reached train.rounds = ${config.train.rounds ?? 0}`)
      return end
    } catch (error) {
      await restartEngine(running, engine, state, storeFailure ?? error)
    }
  }
}

/** Starts the engine again, also when it dies over that; throws `cause` when it may not. */
async function restartEngine(
  running: Running,
  engine: Engine,
  state: JobState,
  cause: unknown,
): Promise<void> {
  const { stop } = running.options
  for (let death = cause; ;) {
    if (stop.aborted || !engine.canRestart(death)) throw death
    reportDeath(running, death)
    try {
      await engine.restart(state.adapter, stop)
      return
    } catch (error) {
      death = error
    }
  }
}

function reportDeath(running: Running, error: unknown): void {
  running.emit({ type: 'error', code: 'ENGINE_DIED', message: messageOf(error) })
  running.options.log.warn(
    { code: 'ENGINE_DIED', err: error },
    'starting the engine again from the last checkpoint',
  )
}

/** Aborts when `stop` has been aborted for the grace time, or at once when no all-reduce is under way. */
function abandonAfterGrace(
  stop: AbortSignal,
  isReducing: () => boolean,
): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const begin = (): void => {
    const abort = (): void => controller.abort(new Error('stopping'))
    if (isReducing()) timer = setTimeout(abort, STOP_GRACE_MS)
    else abort()
  }
  if (stop.aborted) begin()
  else stop.addEventListener('abort', begin, { once: true })
  return {
    signal: controller.signal,
    release: () => {
      clearTimeout(timer)
      stop.removeEventListener('abort', begin)
    },
  }
}

/** The trainer's part of `train`, with this node's own seed. */
function trainerConfigOf(config: NodeConfig, identity: Identity): ResolvedConfig {
  return { ...trainerSettings(config), seed: config.train.seed ?? workerSeed(identity.peerId) }
}
