/** What the daemon knows about itself right now, as the status document. No I/O: the daemon tells it, readers ask. */
import type { Trainer } from '@gym-node/gspo'
import type { Ring } from '@gym-node/ring'
import type { NodeConfig } from './config/schema.ts'
import type { DaemonEvent, DaemonState, DaemonStatus, MemberStatus, NetworkStatus } from './status.ts'
import { VERSION } from './version.ts'

/** Collects events and answers with a `DaemonStatus`. */
export class StatusBoard {
  readonly #config: NodeConfig
  readonly #peerId: string
  readonly #startedAt: string
  #state: DaemonState = 'starting'
  #reason = 'reading the state folder'
  #trainer: Trainer['info'] | null = null
  #ring: Ring | null = null
  #round = 0
  #lastStep: DaemonStatus['last_step'] = null
  #lastRound: DaemonStatus['last_round'] = null
  #lastDelta: DaemonStatus['last_delta'] = null
  #verdicts: DaemonStatus['verdicts'] = { accepted: 0, rejected: 0, unavailable: 0, last: null }
  #lastError: DaemonStatus['last_error'] = null
  /** On the clock that only goes forward: somebody may set the other one. */
  #progressAt: number | null = null

  constructor(config: NodeConfig, peerId: string, startedAt: Date) {
    this.#config = config
    this.#peerId = peerId
    this.#startedAt = startedAt.toISOString()
  }

  get state(): DaemonState {
    return this.#state
  }

  /** The engine that works now. */
  useTrainer(trainer: Trainer['info']): void {
    this.#trainer = trainer
  }

  /** The ring that this node is in now, or null. */
  useRing(ring: Ring | null): void {
    this.#ring = ring
  }

  /** The last committed round, also when it came from the ring instead of from here. */
  setRound(round: number): void {
    this.#round = round
  }

  /** Takes in one event at `time`. */
  record(event: DaemonEvent, time: Date): void {
    switch (event.type) {
      case 'state':
        if (event.state === 'training' && this.#state !== 'training') this.#progressAt = performance.now()
        this.#state = event.state
        this.#reason = event.reason
        return
      case 'step':
        this.#progressAt = performance.now()
        this.#lastStep = event.stats
        return
      case 'round':
        this.#progressAt = performance.now()
        this.#lastRound = event.round
        this.#round = event.round.round
        return
      case 'error':
        this.#lastError = { time: time.toISOString(), code: event.code, message: event.message }
        return
      case 'delta': {
        const { round, bytes, dtype, relative_error } = event
        this.#lastDelta = { round, bytes, dtype, relative_error }
        return
      }
      case 'verdict': {
        this.#progressAt = performance.now()
        const { result } = event.verdict
        this.#verdicts = { ...this.#verdicts, [result]: this.#verdicts[result] + 1, last: event.verdict }
        return
      }
      case 'view':
      case 'rollout':
        return
    }
  }

  /** The status document of this moment. */
  document(): DaemonStatus {
    const trainer = this.#trainer
    return {
      schema: 1,
      version: VERSION,
      pid: process.pid,
      peer_id: this.#peerId,
      role: this.#config.role,
      job: this.#config.job,
      started_at: this.#startedAt,
      state: this.#state,
      state_reason: this.#reason,
      seconds_since_progress:
        this.#progressAt === null ? null : Math.round((performance.now() - this.#progressAt) / 100) / 10,
      engine: trainer?.engine ?? null,
      model:
        trainer === null
          ? null
          : {
              path: this.#config.train.model,
              architecture: trainer.model.architecture,
              parameters: trainer.model.parameters,
              sha256: trainer.model.sha256,
            },
      dataset_size: trainer?.datasetSize ?? null,
      step: this.#lastStep?.step ?? 0,
      round: this.#round,
      ring: this.#ringStatus(),
      last_step: this.#lastStep,
      last_round: this.#lastRound,
      last_delta: this.#lastDelta,
      verdicts: this.#verdicts,
      last_error: this.#lastError,
    }
  }

  #ringStatus(): DaemonStatus['ring'] {
    const ring = this.#ring
    const quorum = this.#config.ring.quorum
    if (ring === null) {
      return {
        ring_id: null,
        epoch: null,
        quorum,
        members: [],
        addresses: [],
        view_changes: 0,
        bytes_sent: 0,
        bytes_received: 0,
        frames_rejected: 0,
        rejected: {},
        network: null,
      }
    }
    const { counters, members, network } = ring.status
    const known = new Map(members.map((member) => [member.peerId, member]))
    // In ring order; a node that is in no view shows itself.
    const order = ring.view?.members ?? []
    const shown = order.includes(ring.peerId) ? order : [ring.peerId, ...order]
    return {
      ring_id: ring.view?.ringId ?? null,
      epoch: ring.view?.epoch ?? null,
      quorum,
      members: shown.map((peerId) =>
        peerId === ring.peerId
          ? { peer_id: peerId, state: 'self', round: this.#round }
          : toMember(peerId, known.get(peerId)),
      ),
      addresses: [...ring.addresses],
      view_changes: counters.viewChanges,
      bytes_sent: counters.bytesSent,
      bytes_received: counters.bytesReceived,
      frames_rejected: Object.values(counters.rejected).reduce((sum, count) => sum + count, 0),
      rejected: counters.rejected,
      network: toNetwork(network),
    }
  }
}

function toNetwork(network: Ring['status']['network']): NetworkStatus {
  return {
    reachability: network.reachability,
    seen: network.seen,
    advice: network.advice,
    reservations: network.reservations,
    connections: network.connections,
    relayed_connections: network.relayedConnections,
    hole_punches: network.holePunches,
    found: network.found,
    dials: network.dials,
    dial_failures: network.dialFailures,
    limits: network.limits,
  }
}

function toMember(peerId: string, member: Ring['status']['members'][number] | undefined): MemberStatus {
  return { peer_id: peerId, state: member?.alive === true ? 'alive' : 'lost', round: member?.round ?? null }
}
