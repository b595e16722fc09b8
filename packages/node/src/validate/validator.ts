/**
 * The validator role: looks for new rounds, draws which deltas to audit from each round's agreed result, fetches delta,
 * trace and start state from the worker, replays, and publishes a signed verdict. It never trains and has no power but
 * its word: what members do with a verdict is theirs.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { resolveConfig, type GSPOConfig, type Trainer } from '@gym-node/gspo'
import { sha3_256, type AttestationPolicy, type Identity } from '@gym-node/wire'
import { messageOf, NodeError } from '../errors.ts'
import {
  AUDIT_PROTOCOL,
  decodeRecords,
  encodeRequest,
  VERDICT_PROTOCOL,
  type AuditFile,
  type Exchange,
} from './audit-protocol.ts'
import { isAudited } from './audit-selection.ts'
import { unchecked, type CheckResult } from './checks.ts'
import { AUDIT_GRACE_ROUNDS, MAX_LIST_BYTES } from './defaults.ts'
import { fetchFile } from './fetched-file.ts'
import { judgeFetched } from './fetched-quality.ts'
import { fetchResidual } from './fetched-residual.ts'
import { checkFetchedSum } from './fetched-sum.ts'
import { replayDelta } from './replay.ts'
import type { ResidualFiles } from './replay-types.ts'
import type { ReplayVerdict } from './replay-types.ts'
import type { RoundRecord } from './round-records.ts'
import type { ValidatorConfig } from './validator-config.ts'
import { signVerdict, type AuditVerdict } from './verdict-message.ts'
import { agreedRounds, type Testimony } from './witnesses.ts'
import { workerSeed } from './worker-seed.ts'

/** What a validator works with. */
export interface ValidatorParts {
  readonly exchange: Exchange
  readonly identity: Identity
  readonly job: string
  /** The job's training configuration with this machine's paths and engine. */
  readonly train: GSPOConfig
  /** False when the job's configuration fixes one seed for all, which then is `train.seed`. */
  readonly hasWorkerSeeds: boolean
  /** How the job's mean delta moves the adapter. */
  readonly outer: 'average' | 'nesterov'
  /** Whether the job's deltas are applied a round late; default false. */
  readonly overlap?: boolean
  readonly config: ValidatorConfig
  /** Rounds for which the job's workers keep traces; a round that is older is passed over, not held against them. */
  readonly traceKeepRounds: number
  /** Checked against the time of each audit. */
  readonly attestation: Omit<AttestationPolicy, 'now'>
  /** Name and version of this software, for the verdict. */
  readonly software: string
  /** Whether this validator has published a verdict on the worker's round before, in an earlier run; default never. */
  readonly isJudged?: (round: number, workerId: string) => boolean
  readonly onVerdict: (verdict: AuditVerdict, signed: Uint8Array) => Promise<void> | void
  /** Told before each look and each audit, with what is done. */
  readonly onActivity?: (activity: ValidatorActivity) => void
  readonly onTrouble: (what: string, error: unknown) => void
  readonly now?: () => Date
  /** Makes the trainer of a replay; `spawnTrainer` when left out. */
  readonly openTrainer?: (config: GSPOConfig) => Promise<Trainer>
}

/** What a validator does at the moment. */
export type ValidatorActivity =
  | { readonly kind: 'looking'; readonly peers: number; readonly lastRound: number | null }
  | { readonly kind: 'auditing'; readonly round: number; readonly workerId: string }

/** The files of one delta, as fetched. */
interface Fetched {
  readonly delta: Uint8Array
  readonly trace: Uint8Array
  readonly base: Uint8Array
  readonly residual: ResidualFiles
}

/** A delta that was drawn. */
interface Audited {
  readonly record: RoundRecord
  /** Of the round before, where it is known. */
  readonly previous: RoundRecord | undefined
  readonly contribution: RoundRecord['contributions'][number]
}

function hexSha3(bytes: Uint8Array): string {
  return Buffer.from(sha3_256(bytes)).toString('hex')
}

/** Audits round after round. */
export class Validator {
  readonly #parts: ValidatorParts
  /** Rounds looked at; they only go forward. */
  #lastRound = -1
  /** The trainer's state after each worker's last replayed round. */
  readonly #states = new Map<string, { round: number; state: Uint8Array }>()

  constructor(parts: ValidatorParts) {
    this.#parts = parts
  }

  /** Audits until the signal fires. Failures of peers are reported, never thrown; the engine's own are. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.auditNewRounds(signal)
        await sleep(this.#parts.config.poll_interval_ms, undefined, { signal })
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
  }

  /** Looks once; returns the verdicts that it published. */
  async auditNewRounds(signal: AbortSignal): Promise<AuditVerdict[]> {
    const { config, exchange, onActivity } = this.#parts
    const lastRound = this.#lastRound < 0 ? null : this.#lastRound
    onActivity?.({ kind: 'looking', peers: exchange.peers().length, lastRound })
    const rounds = agreedRounds(await this.#testimonies(signal), config.min_witnesses)
    const verdicts: AuditVerdict[] = []
    for (const record of rounds) {
      if (record.round <= this.#lastRound || signal.aborted) continue
      const previous = rounds.find(({ round }) => round === record.round - 1)
      verdicts.push(...(await this.#auditRound(record, previous, signal)))
      if (!signal.aborted) this.#lastRound = record.round
    }
    return verdicts
  }

  async #testimonies(signal: AbortSignal): Promise<Testimony[]> {
    const { exchange, config, onTrouble } = this.#parts
    const asked = exchange.peers().map(async (peerId): Promise<Testimony[]> => {
      try {
        const options = { maxResponseBytes: MAX_LIST_BYTES, timeoutMs: config.request_timeout_ms, signal }
        const bytes = await exchange.request(
          peerId,
          AUDIT_PROTOCOL,
          encodeRequest({ want: 'rounds' }),
          options,
        )
        return [{ peerId, records: decodeRecords(bytes) }]
      } catch (error) {
        onTrouble(`rounds of ${peerId}`, error)
        return []
      }
    })
    return (await Promise.all(asked)).flat()
  }

  async #auditRound(
    record: RoundRecord,
    previous: RoundRecord | undefined,
    signal: AbortSignal,
  ): Promise<AuditVerdict[]> {
    const { job, identity, config, isJudged = () => false } = this.#parts
    const drawn = record.contributions.filter(
      ({ peer_id: workerId }) =>
        !isJudged(record.round, workerId) &&
        isAudited(
          {
            job,
            round: record.round,
            resultSha3: record.result_sha3_256,
            workerId,
            validatorId: identity.peerId,
          },
          config.sample_rate,
        ),
    )
    if (drawn.length === 0 || (await this.#isTooLate(record.round, signal))) return []
    const deltas = await this.#roundDeltas(record, signal)
    const sum = await this.#roundSum(record, deltas, signal)
    const verdicts: AuditVerdict[] = []
    for (const contribution of drawn) {
      if (signal.aborted || (await this.#isTooLate(record.round, signal))) break
      this.#parts.onActivity?.({ kind: 'auditing', round: record.round, workerId: contribution.peer_id })
      const verdict = await this.#auditWorker({ record, previous, contribution }, deltas, sum, signal)
      verdicts.push(verdict)
      await this.#publish(verdict, signal)
    }
    return verdicts
  }

  /**
   * Whether honest workers may have dropped the round's traces by now. The ring says how far it is, not the worker, and
   * before the files are asked for: a worker cannot excuse itself, nor by answering slowly.
   */
  async #isTooLate(round: number, signal: AbortSignal): Promise<boolean> {
    const { config, traceKeepRounds, onTrouble } = this.#parts
    const rounds = agreedRounds(await this.#testimonies(signal), config.min_witnesses)
    const newest = rounds.at(-1)?.round ?? round
    const grace = Math.max(0, Math.min(AUDIT_GRACE_ROUNDS, traceKeepRounds - 1))
    if (round > newest - traceKeepRounds + grace) return false
    onTrouble(
      `audit of round ${round}`,
      new NodeError(
        'TRACE_NOT_FOUND',
        `the ring is in round ${newest} and keeps traces for ${traceKeepRounds}: passed over; lower validator.sample_rate when this goes on`,
      ),
    )
    return true
  }

  /** The deltas of all contributors that answer, for the comparison; each is needed for that alone. */
  async #roundDeltas(record: RoundRecord, signal: AbortSignal): Promise<Map<string, Uint8Array>> {
    const deltas = new Map<string, Uint8Array>()
    for (const { peer_id: workerId } of record.contributions) {
      const bytes = await this.#fetch(workerId, 'delta', record.round, signal)
      if (bytes instanceof Uint8Array) deltas.set(workerId, bytes)
    }
    return deltas
  }

  async #roundSum(
    record: RoundRecord,
    deltas: ReadonlyMap<string, Uint8Array>,
    signal: AbortSignal,
  ): Promise<CheckResult> {
    if (this.#parts.outer !== 'average') {
      return unchecked(
        'round_sum',
        `the outer optimiser is ${this.#parts.outer}; only plain averages can be compared`,
      )
    }
    return checkFetchedSum(record, deltas, async (workerId, round) => {
      const state = await this.#fetch(workerId, 'state', round, signal)
      return state instanceof Uint8Array ? state : null
    })
  }

  /** A file, or why it could not be had. */
  #fetch(
    workerId: string,
    want: AuditFile,
    round: number,
    signal: AbortSignal,
  ): Promise<Uint8Array | string> {
    return fetchFile(this.#parts, { workerId, want, round }, signal)
  }

  async #auditWorker(
    { record, previous, contribution }: Audited,
    deltas: ReadonlyMap<string, Uint8Array>,
    sum: CheckResult,
    signal: AbortSignal,
  ): Promise<AuditVerdict> {
    const { round } = record
    const workerId = contribution.peer_id
    const delta = deltas.get(workerId) ?? (await this.#fetch(workerId, 'delta', round, signal))
    const trace = await this.#fetch(workerId, 'trace', round, signal)
    const base = await this.#fetch(workerId, 'state', round, signal)
    const residual =
      delta instanceof Uint8Array
        ? await fetchResidual(delta, { round, workerId, previous }, (want, of) =>
            this.#fetch(workerId, want, of, signal),
          )
        : {}
    if (
      !(delta instanceof Uint8Array && trace instanceof Uint8Array && base instanceof Uint8Array) ||
      typeof residual === 'string'
    ) {
      const why = [delta, trace, base, residual].filter((file) => typeof file === 'string').join('; ')
      const checks = [{ name: 'files', ok: false, detail: why.slice(0, 1024) }]
      return this.#verdict(record, workerId, {
        result: 'unavailable',
        checks,
        quality: [],
        files: null,
        seconds: 0,
      })
    }
    const files = { delta, trace, base, residual }
    const replayed = await this.#replay({ record, previous }, contribution, files, signal)
    if (replayed.ok && replayed.stateAfter !== null)
      this.#states.set(workerId, { round, state: replayed.stateAfter })
    const quality = await this.#quality(workerId, deltas, replayed.ok ? base : null, signal)
    return this.#verdict(record, workerId, {
      result: replayed.ok ? 'accepted' : 'rejected',
      checks: replayed.checks,
      quality: [...quality, sum],
      files,
      seconds: replayed.seconds,
    })
  }

  /**
   * With overlap the steps may have started before the round before this one was applied. Where that round is not known
   * nothing is expected: the worker's word stands.
   */
  #bases(record: RoundRecord, previous: RoundRecord | undefined): { adapterBefore?: readonly string[] } {
    if (this.#parts.overlap !== true) return { adapterBefore: [record.adapter_before] }
    return previous === undefined ? {} : { adapterBefore: [record.adapter_before, previous.adapter_before] }
  }

  #replay(
    { record, previous: previousRecord }: Pick<Audited, 'record' | 'previous'>,
    { peer_id: workerId, weight, commitment }: RoundRecord['contributions'][number],
    files: Fetched,
    signal: AbortSignal,
  ): Promise<ReplayVerdict> {
    const { job, train, hasWorkerSeeds, config, openTrainer, now = () => new Date() } = this.#parts
    const previous = this.#states.get(workerId)
    const expected = {
      job,
      round: record.round,
      workerId,
      weight,
      ...(commitment === null ? {} : { commitment }),
      ...this.#bases(record, previousRecord),
      seed: hasWorkerSeeds ? workerSeed(workerId) : resolveConfig(train).seed,
      attestation: { ...this.#parts.attestation, now: now() },
      ...(previous?.round === record.round - 1 ? { previousState: previous.state } : {}),
    }
    return replayDelta({
      ...files,
      config: train,
      expected,
      tolerance: config.replay,
      signal,
      ...(openTrainer === undefined ? {} : { openTrainer }),
    })
  }

  async #quality(
    workerId: string,
    deltas: ReadonlyMap<string, Uint8Array>,
    base: Uint8Array | null,
    signal: AbortSignal,
  ): Promise<readonly CheckResult[]> {
    const { config, train, openTrainer, onTrouble } = this.#parts
    try {
      const trial =
        base === null || config.held_out === null
          ? null
          : { base, dataset: config.held_out, train, openTrainer }
      return await judgeFetched(workerId, deltas, config.quality, trial, signal)
    } catch (error) {
      signal.throwIfAborted()
      onTrouble(`quality of ${workerId}`, error)
      return [unchecked('quality', `could not be judged: ${messageOf(error)}`.slice(0, 1024))]
    }
  }

  #verdict(
    record: RoundRecord,
    workerId: string,
    found: {
      result: AuditVerdict['result']
      checks: readonly CheckResult[]
      quality: readonly CheckResult[]
      files: Fetched | null
      seconds: number
    },
  ): AuditVerdict {
    const { job, identity, software, now = () => new Date() } = this.#parts
    const bounded = (checks: readonly CheckResult[]): CheckResult[] =>
      checks.map(({ name, ok, detail }) => ({ name, ok, detail: detail.slice(0, 2048).toWellFormed() }))
    const { files } = found
    return {
      version: 1,
      job,
      round: record.round,
      worker_id: workerId,
      validator_id: identity.peerId,
      result: found.result,
      checks: bounded(found.checks),
      quality: bounded(found.quality),
      result_sha3_256: record.result_sha3_256,
      delta_sha3_256: files === null ? null : hexSha3(files.delta),
      trace_sha3_256: files === null ? null : hexSha3(files.trace),
      base_sha3_256: files === null ? null : hexSha3(files.base),
      timestamp: now().toISOString(),
      replay_seconds: found.seconds,
      software,
    }
  }

  /** Keeps the verdict here and sends it to every peer; a peer that does not take it is reported. */
  async #publish(verdict: AuditVerdict, signal: AbortSignal): Promise<void> {
    const { exchange, identity, config, onVerdict, onTrouble } = this.#parts
    const signed = signVerdict(verdict, identity)
    await onVerdict(verdict, signed)
    const options = { maxResponseBytes: 1024, timeoutMs: config.request_timeout_ms, signal }
    await Promise.all(
      exchange.peers().map((peer) =>
        exchange.request(peer, VERDICT_PROTOCOL, signed, options).catch((error: unknown) => {
          onTrouble(`verdict to ${peer}`, error)
        }),
      ),
    )
  }
}
