/** A daemon that runs: what its parts share, and the ring that it opens. */
import { readFile } from 'node:fs/promises'
import { createRing, type ReachVerdict, type Ring, type StateProvider, type ViewStore } from '@gym-node/ring'
import type { Identity } from '@gym-node/wire'
import type { NodeConfig } from './config/schema.ts'
import { errnoOf } from './errors.ts'
import { ringLogger } from './event-sink.ts'
import type { Logger } from './log.ts'
import { ringNetwork } from './network/ring-network.ts'
import type { ParentLink } from './parent-link.ts'
import type { PauseSwitch } from './pause-switch.ts'
import type { ServiceManager } from './service-manager.ts'
import { writeFileDurably } from './state/atomic.ts'
import { writeDaemonFile } from './state/daemon-file.ts'
import type { StatePaths } from './state/folder.ts'
import type { StatusBoard } from './status-board.ts'
import type { DaemonEvent, DaemonState } from './status.ts'
import { VERSION } from './version.ts'

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
export interface Running {
  readonly options: DaemonOptions
  readonly identity: Identity
  readonly paths: StatePaths
  readonly board: StatusBoard
  readonly pause: PauseSwitch
  readonly emit: (event: DaemonEvent) => void
  readonly enter: (state: DaemonState, reason: string) => void
  readonly startedAt: Date
  readonly service: ServiceManager
  http: string | null
}

/** Opens the ring, as a member or as an observer, and says where it listens. */
export async function openRing(
  running: Running,
  state: StateProvider,
  role: 'member' | 'observer',
): Promise<Ring> {
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
    network: await ringNetwork(config.network, running.paths.peers),
    // Read at each use: both may change when the configuration is read again.
    get allow() {
      return config.network.allow ?? undefined
    },
    get deny() {
      return config.network.deny
    },
    minMembers: options.min_members,
    quorum: options.quorum,
    peerTimeoutMs: options.peer_timeout_ms,
    wire: options.wire,
    carrier: options.carrier,
    sockets: options.sockets,
    integrity: options.integrity,
    role,
    state,
    store: viewStore(running.paths),
    logger: ringLogger(log),
  })
  ring.on('view', (view) => running.emit({ type: 'view', epoch: view.epoch, members: view.members }))
  ring.on('error', (error) => running.emit({ type: 'error', code: error.code, message: error.message }))
  ring.on('reachability', (verdict) => logReachability(log, verdict))
  await ring.start()
  await writeWhereabouts(running, ring.addresses)
  parent.send({ type: 'listening', peerId: ring.peerId, addresses: ring.addresses, http: running.http })
  log.info({ addresses: ring.addresses, http: running.http }, 'listening')
  running.service.ready()
  return ring
}

/** At start, and when it changes: can others reach this node, and if not, what its operator can do. */
function logReachability(log: Logger, { state, seen, advice }: ReachVerdict): void {
  const text = `reachability ${state}: ${seen}${advice === '' ? '' : `; ${advice}`}`
  if (advice === '') log.info({ reachability: state }, text)
  else log.warn({ reachability: state }, text)
}

/** The ring's promises and its last result, each in a durable file of its own. */
function viewStore(paths: StatePaths): ViewStore {
  const load = async (path: string): Promise<Uint8Array | null> => {
    try {
      return await readFile(path)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    }
  }
  const save = async (path: string, bytes: Uint8Array): Promise<void> => {
    await writeFileDurably(path, bytes)
  }
  return {
    load: () => load(paths.view),
    save: (bytes) => save(paths.view, bytes),
    loadResult: () => load(paths.result),
    saveResult: (bytes) => save(paths.result, bytes),
  }
}

/** Writes `daemon.json`, by which other commands find this daemon. */
export async function writeWhereabouts(running: Running, addresses: readonly string[]): Promise<void> {
  await writeDaemonFile(running.paths.daemon, {
    pid: process.pid,
    peer_id: running.identity.peerId,
    addresses: [...addresses],
    http: running.http,
    started_at: running.startedAt.toISOString(),
    version: VERSION,
  })
}
