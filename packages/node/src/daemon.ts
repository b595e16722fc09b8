/**
 * One daemon from start to stop: opens the state folder, the status server and its role's work in this order, and
 * closes them in reverse. Resolves when it has stopped as asked; throws what ended it.
 */
import { readFile } from 'node:fs/promises'
import { errnoOf, messageOf, NodeError } from './errors.ts'
import { eventSink } from './event-sink.ts'
import { createObservatory } from './observe/index.ts'
import { openTracing } from './observe/tracing.ts'
import { PauseSwitch } from './pause-switch.ts'
import { writeWhereabouts, type DaemonOptions, type Running } from './running.ts'
import { openServiceManager } from './service-manager.ts'
import { removeDaemonFile } from './state/daemon-file.ts'
import { openStateFolder } from './state/folder.ts'
import { asStateError } from './state/atomic.ts'
import { claimForJob } from './state/job-file.ts'
import { loadOrCreateIdentity } from './state/identity-files.ts'
import { LAYOUT_VERSION } from './state/migrations.ts'
import { StatusBoard } from './status-board.ts'
import type { DaemonState } from './status.ts'
import { runValidator } from './validator-role.ts'
import { buildLine, VERSION } from './version.ts'
import { runWorker } from './worker-role.ts'

export type { DaemonOptions }

/** Runs the daemon until `stop`, the limit of rounds, or an error. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { config, log } = options
  await using closing = new AsyncDisposableStack()
  const folder = await openStateFolder(config.state_dir)
  closing.defer(() => folder.close())
  if (folder.migratedFrom !== null)
    log.warn({ from: folder.migratedFrom, to: LAYOUT_VERSION }, 'state folder migrated from an older version')
  await claimForJob(folder.paths, config.job)
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
    allowedHosts: config.http.allowed_hosts,
    logger: log,
  })
  closing.defer(() => observatory.stop())
  const tracing = await openTracing({
    endpoint: config.tracing.endpoint,
    peerId: identity.peerId,
    job: config.job,
    version: VERSION,
    logger: log,
  })
  closing.defer(() => tracing.stop())
  const service = openServiceManager(log)
  closing.defer(() => service.close())
  const emit = eventSink({ log, parent: options.parent, board, observatory, tracing, service })
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
    service,
    http: null,
  }
  try {
    running.http = (await observatory.start())?.url ?? null
    await writeWhereabouts(running, [])
    closing.defer(() => removeDaemonFile(folder.paths.daemon))
    await (config.role === 'validator' ? runValidator(running) : runWorker(running))
  } catch (thrown) {
    const error = isOfFolder(thrown, folder.paths.root) ? asStateError(thrown, folder.paths.root) : thrown
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

/** An error of the file system on something in the state folder: a folder that was removed, a disk that fails. */
function isOfFolder(error: unknown, root: string): boolean {
  return error instanceof Error && 'path' in error && String(error.path).startsWith(root)
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
