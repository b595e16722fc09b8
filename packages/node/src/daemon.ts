/**
 * One daemon from start to stop: opens the state folder, the status server, the engine and the ring in this
 * order, runs the loop, and closes them in reverse. Resolves when it has stopped as asked; throws what ended it.
 */
import { readFile } from 'node:fs/promises'
import type { GSPOConfig, ResolvedConfig } from '@gym-node/gspo'
import { createRing, type Ring, type ViewStore } from '@gym-node/ring'
import type { Identity } from '@gym-node/wire'
import { loopShape, type NodeConfig } from './config/schema.ts'
import { STOP_GRACE_MS } from './defaults.ts'
import { Engine } from './engine.ts'
import { errnoOf, messageOf, NodeError } from './errors.ts'
import { eventSink, ringLogger } from './event-sink.ts'
import type { Logger } from './log.ts'
import { runLoop, type LoopEnd } from './loop.ts'
import { createObservatory } from './observe/index.ts'
import type { ParentLink } from './parent-link.ts'
import { PauseSwitch } from './pause-switch.ts'
import { writeFileDurably } from './state/atomic.ts'
import { removeDaemonFile, writeDaemonFile } from './state/daemon-file.ts'
import { DeltaStore } from './state/delta-store.ts'
import { openStateFolder, type StatePaths } from './state/folder.ts'
import { loadOrCreateIdentity } from './state/identity-files.ts'
import { initialState, JobState } from './state/job-state.ts'
import { StatusBoard } from './status-board.ts'
import type { DaemonEvent, DaemonState } from './status.ts'
import { workerSeed } from './validate/worker-seed.ts'
import { buildLine, VERSION } from './version.ts'

/** What a daemon is started with. */
export interface DaemonOptions {
  readonly config: NodeConfig
  readonly configFile: string | null
  readonly log: Logger
  readonly parent: ParentLink
  /** Asks the daemon to stop: the local steps end at once, an all-reduce may finish. */
  readonly stop: AbortSignal
}

/** What all parts of a running daemon share. */
interface Running {
  readonly options: DaemonOptions
  readonly identity: Identity
  readonly paths: StatePaths
  readonly board: StatusBoard
  readonly pause: PauseSwitch
  readonly emit: (event: DaemonEvent) => void
  readonly enter: (state: DaemonState, reason: string) => void
  readonly startedAt: Date
  http: string | null
}

/** Runs the daemon until `stop`, the limit of rounds, or an error. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { config, log } = options
  await using closing = new AsyncDisposableStack()
  const folder = await openStateFolder(config.state_dir)
  closing.defer(() => folder.close())
  const { identity, created } = await loadOrCreateIdentity(folder.paths.identity)
  const startedAt = new Date()
  log.info(
    {
      version: VERSION,
      build: buildLine(),
      peer_id: identity.peerId,
      new_identity: created,
      config: options.configFile,
      state_dir: folder.paths.root,
    },
    'starting',
  )

  const board = new StatusBoard(config, identity.peerId, startedAt)
  const pause = new PauseSwitch()
  const leave = new AbortController()
  const stop = AbortSignal.any([options.stop, leave.signal])
  const observatory = createObservatory({
    stateDir: folder.paths.root,
    listen: config.http.enabled ? { host: config.http.host, port: config.http.port } : null,
    token: await readToken(config.http.token_file),
    status: () => board.document(),
    controls: {
      pause: async () => pause.pause(),
      resume: async () => pause.resume(),
      leave: async () => leave.abort(new Error('asked to leave over HTTP')),
    },
    logger: log,
  })
  closing.defer(() => observatory.stop())
  const emit = eventSink({ log, parent: options.parent, board, observatory })
  const enter = (state: DaemonState, reason: string): void => emit({ type: 'state', state, reason })
  const running: Running = {
    options: { ...options, stop },
    identity,
    paths: folder.paths,
    board,
    pause,
    emit,
    enter,
    startedAt,
    http: null,
  }
  try {
    running.http = (await observatory.start())?.url ?? null
    await writeWhereabouts(running, [])
    closing.defer(() => removeDaemonFile(folder.paths.daemon))
    await trainUntilDone(running)
  } catch (error) {
    if (stop.aborted && !(error instanceof NodeError)) log.debug({ err: error }, 'ended by the stop signal')
    else {
      const code = errnoOf(error) ?? 'INTERNAL'
      emit({ type: 'error', code, message: messageOf(error) })
      enter('failed', messageOf(error))
      throw error
    }
  }
  log.info({ round: board.document().round }, 'stopped')
}

/** Engine, state and rounds; the ring opens and closes around every stretch without a pause. */
async function trainUntilDone(running: Running): Promise<void> {
  const { config, log, stop } = running.options
  running.enter('starting', 'loads the model')
  const trainerConfig = trainerConfigOf(config, running.identity)
  await using closing = new AsyncDisposableStack()
  const { engine, checkpoint } = await Engine.start(trainerConfig, running.paths.checkpoint, stop)
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
    adapter: await engine.trainer.readAdapter(),
    outer,
  })
  const state = new JobState({
    state: first,
    outer,
    install: (next) => engine.install(next),
    onAdopted: (round) => {
      log.info({ round }, 'took over the state of the ring')
      running.board.setRound(round)
    },
  })
  if (checkpoint !== null) state.resume(checkpoint.shared)
  running.board.setRound(state.round)
  const deltas = await DeltaStore.open({
    paths: running.paths,
    identity: running.identity,
    config,
    trainerConfig,
    info,
    emit: running.emit,
  })
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

  for (;;) {
    const end = await trainInRing(running, engine, state, deltas)
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
): Promise<LoopEnd> {
  const { config, log, stop } = running.options
  await using closing = new AsyncDisposableStack()
  const ring = await openRing(running, state)
  closing.defer(() => ring.stop())
  running.board.useRing(ring)
  const abandon = abandonAfterGrace(stop, () => ring.status.activeRound !== null)
  closing.defer(() => abandon.release())
  for (;;) {
    try {
      const end = await runLoop({
        ring,
        trainer: engine.trainer,
        state,
        aggregateInterval: config.train.aggregate_interval,
        rounds: config.train.rounds,
        writeDelta: (delta) => deltas.write(delta, stop),
        emit: running.emit,
        stop,
        abandon: abandon.signal,
        pause: running.pause.signal,
      })
      if (end === 'stopped') running.enter('stopping', 'asked to stop')
      if (end === 'limit') running.enter('stopping', `reached train.rounds = ${config.train.rounds ?? 0}`)
      return end
    } catch (error) {
      if (stop.aborted || !engine.canRestart(error)) throw error
      running.emit({ type: 'error', code: 'ENGINE_DIED', message: messageOf(error) })
      log.warn({ code: 'ENGINE_DIED', err: error }, 'starting the engine again from the last checkpoint')
      await engine.restart(state.adapter, stop)
    }
  }
}

async function openRing(running: Running, state: JobState): Promise<Ring> {
  const { config, log, parent } = running.options
  const { ring: options } = config
  if (options.quorum === 'any')
    log.warn({ quorum: 'any' }, 'quorum any: both halves of a cut ring would go on; for test rings only')
  const ring = await createRing({
    identity: running.identity,
    job: config.job,
    listen: options.listen,
    bootstrap: options.bootstrap,
    mdns: options.mdns,
    minMembers: options.min_members,
    quorum: options.quorum,
    peerTimeoutMs: options.peer_timeout_ms,
    wire: options.wire,
    integrity: options.integrity,
    state,
    store: viewStore(running.paths.view),
    logger: ringLogger(log),
  })
  ring.on('view', (view) => running.emit({ type: 'view', epoch: view.epoch, members: view.members }))
  ring.on('error', (error) => running.emit({ type: 'error', code: error.code, message: error.message }))
  await ring.start()
  await writeWhereabouts(running, ring.addresses)
  parent.send({ type: 'listening', peerId: ring.peerId, addresses: ring.addresses, http: running.http })
  log.info({ addresses: ring.addresses, http: running.http }, 'listening')
  return ring
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
function trainerConfigOf(config: NodeConfig, identity: Identity): GSPOConfig {
  const { seed, ...train } = config.train
  const own = Object.fromEntries(Object.entries(train).filter(([key]) => !(key in loopShape))) as Omit<
    ResolvedConfig,
    'seed'
  >
  return {
    ...own,
    seed: seed ?? workerSeed(identity.peerId),
  }
}

function viewStore(path: string): ViewStore {
  return {
    load: async () => {
      try {
        return await readFile(path)
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return null
        throw error
      }
    },
    save: async (bytes) => {
      await writeFileDurably(path, bytes)
    },
  }
}

async function writeWhereabouts(running: Running, addresses: readonly string[]): Promise<void> {
  await writeDaemonFile(running.paths.daemon, {
    pid: process.pid,
    peer_id: running.identity.peerId,
    addresses: [...addresses],
    http: running.http,
    started_at: running.startedAt.toISOString(),
    version: VERSION,
  })
}

async function readToken(path: string | null): Promise<string | null> {
  if (path === null) return null
  try {
    const token = (await readFile(path, 'utf8')).split('\n')[0]?.trim() ?? ''
    if (token === '') throw new NodeError('CONFIG_INVALID', `http.token_file ${path} has an empty first line`)
    return token
  } catch (error) {
    if (error instanceof NodeError) throw error
    throw new NodeError('FILE_NOT_FOUND', `cannot read http.token_file ${path}`, { cause: error })
  }
}
