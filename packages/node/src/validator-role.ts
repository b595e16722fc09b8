/** The role `validator`: watches the ring without being a member, replays deltas that it draws, publishes verdicts. */
import { readFile } from 'node:fs/promises'
import { spawnTrainer } from '@gym-node/gspo'
import type { StateProvider } from '@gym-node/ring'
import { sha3_256, type AttestationPolicy } from '@gym-node/wire'
import { openVerdicts, statusOf } from './audits.ts'
import type { NodeConfig } from './config/schema.ts'
import { trainerSettings } from './config/trainer-settings.ts'
import { messageOf, NodeError } from './errors.ts'
import { openRing, type Running } from './running.ts'
import type { DaemonState } from './status.ts'
import { TrainerCache } from './validate/trainer-cache.ts'
import { Validator, type ValidatorActivity } from './validate/validator.ts'
import { VERSION } from './version.ts'

/** Nobody's state: an observer never takes part in a round and never serves one. */
const NO_STATE: StateProvider = {
  current: () => ({ round: 0, hash: sha3_256(new Uint8Array(0)) }),
  read: async () => new Uint8Array(0),
  adopt: async () => undefined,
}

/** Audits until the signal. */
export async function runValidator(running: Running): Promise<void> {
  const { config, log, stop } = running.options
  const { store, book } = await openVerdicts(running)
  const attestation = await attestationPolicy(config)
  await using closing = new AsyncDisposableStack()
  const ring = await openRing(running, NO_STATE, 'observer')
  closing.defer(() => ring.stop())
  running.board.useRing(ring)
  running.enter('waiting_for_peers', 'looks for peers of the job')
  const engines = new TrainerCache(spawnTrainer)
  closing.defer(() => engines.close())
  const validator = new Validator({
    exchange: ring,
    identity: running.identity,
    job: config.job,
    train: trainerSettings(config),
    openTrainer: engines.lend,
    outer: config.train.outer.kind,
    overlap: config.train.overlap,
    hasWorkerSeeds: config.train.seed === null,
    config: config.validator,
    traceKeepRounds: config.train.trace_keep_rounds,
    attestation,
    software: `gym-node ${VERSION}`,
    isJudged: (round, workerId) => book.has(running.identity.peerId, workerId, round),
    onVerdict: async (verdict, signed) => {
      await store.keep({ verdict, signed })
      running.emit({ type: 'verdict', verdict: statusOf(verdict), isOld: false })
    },
    onActivity: (activity) => {
      const [state, reason] = stateOf(activity)
      const { state: current, state_reason: shown } = running.board.document()
      if (state !== current || reason !== shown) running.enter(state, reason)
      if (activity.kind === 'auditing') running.board.setRound(activity.round)
    },
    onTrouble: (what, error) => log.warn({ code: 'AUDIT_FAILED' }, `${what}: ${messageOf(error)}`),
  })
  await validator.run(stop)
  running.enter('stopping', 'asked to stop')
}

/** What the status says of an activity. Pure. */
function stateOf(activity: ValidatorActivity): [DaemonState, string] {
  if (activity.kind === 'auditing')
    return ['validating', `audits round ${activity.round} of ${activity.workerId}`]
  if (activity.peers === 0) return ['waiting_for_peers', 'looks for peers of the job']
  return [
    'validating',
    activity.lastRound === null
      ? 'waits for a committed round'
      : `looked at rounds up to ${activity.lastRound}, waits for the next`,
  ]
}

async function attestationPolicy(config: NodeConfig): Promise<Omit<AttestationPolicy, 'now'>> {
  const { required, trusted_keys: trustedKeyNames, roots, pcrs } = config.validator.attestation
  return {
    required,
    trustedKeyNames,
    roots: await Promise.all(roots.map(readPem)),
    pcrs: Object.entries(pcrs).map(([index, value]) => ({
      bank: 'sha256' as const,
      index: Number(index),
      value,
    })),
  }
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new NodeError('FILE_NOT_FOUND', `cannot read ${path}: ${messageOf(error)}`, { cause: error })
  }
}
