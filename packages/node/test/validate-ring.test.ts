/** Two workers in a real ring and a validator beside it, over libp2p on loopback: commit, audit, publish. */

import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, describe, it, type TestContext } from 'node:test'
import type { Trainer } from '@gym-node/gspo'
import { createRing, type Ring, type RoundResult, type StateProvider, type ViewStore } from '@gym-node/ring'
import { sha3_256, verifyDelta, type Identity } from '@gym-node/wire'
import { adapterSha3 } from '../src/delta-tools/adapter.ts'
import { serveAudits } from '../src/validate/audit-service.ts'
import { readBaseState } from '../src/validate/replay-files.ts'
import type { ReplayInput } from '../src/validate/replay-types.ts'
import { writeRoundRecord } from '../src/validate/round-records.ts'
import { Validator } from '../src/validate/validator.ts'
import { validatorConfigSchema } from '../src/validate/validator-config.ts'
import { VerdictBook } from '../src/validate/verdict-book.ts'
import type { AuditVerdict } from '../src/validate/verdict-message.ts'
import { workerSeed } from '../src/validate/worker-seed.ts'
import { temporaryFolder } from './delta-tools-fixtures.ts'
import { filesOf, hex, jobConfig, TrainerPool, workerOf, workRound, type Round } from './validate-fixtures.ts'

const pool = new TrainerPool()
after(() => pool.close())

/** One adapter that all members hold; nobody joins late here, so it is never fetched. */
function stateOf(adapter: Float32Array): StateProvider {
  const bytes = new Uint8Array(adapter.buffer, adapter.byteOffset, adapter.byteLength)
  return {
    current: () => ({ round: 0, hash: sha3_256(bytes) }),
    read: () => Promise.resolve(bytes),
    adopt: () => Promise.reject(new Error('no state is fetched in this test')),
  }
}

function memoryStore(): ViewStore {
  let kept: Uint8Array | null = null
  return {
    load: () => Promise.resolve(kept),
    save: (bytes) => {
      kept = bytes.slice()
      return Promise.resolve()
    },
  }
}

async function startRing(
  t: Pick<TestContext, 'after'>,
  identity: Identity,
  adapter: Float32Array,
  o: { role: 'member' | 'observer'; bootstrap: readonly string[] },
): Promise<Ring> {
  const quiet = (): void => undefined
  const ring = await createRing({
    identity,
    job: 'arith',
    listen: ['/ip4/127.0.0.1/tcp/0'],
    bootstrap: o.bootstrap,
    mdns: false,
    minMembers: 2,
    quorum: 'majority',
    peerTimeoutMs: 20_000,
    wire: 'f32',
    integrity: 'sealed',
    role: o.role,
    state: stateOf(adapter),
    store: memoryStore(),
    logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
  })
  t.after(() => ring.stop())
  await ring.start()
  return ring
}

/** Runs a round of two workers, the second one feeding `fed` of its delta to the ring, and audits it. */
async function auditedRound(
  t: TestContext,
  fed: (values: Float32Array) => Float32Array,
): Promise<{ verdicts: AuditVerdict[]; heard: AuditVerdict[] }> {
  const folder = await temporaryFolder(t)
  const heard: AuditVerdict[] = []
  const bootstrap: string[] = []
  const workers: {
    identity: Identity
    trainer: Trainer
    round: Round
    files: Pick<ReplayInput, 'delta' | 'trace' | 'base'>
    before: Float32Array
    ring: Ring
  }[] = []
  for (const identity of [workerOf(1), workerOf(2)]) {
    const config = jobConfig({ seed: workerSeed(identity.peerId) })
    const trainer = await pool.take(config)
    await trainer.importState(await fresh(config))
    const round = await workRound(trainer, { identity, round: 1, config, steps: 2 })
    const files = await filesOf(round)
    const before = readBaseState(files.base).adapter
    const ring = await startRing(t, identity, before, { role: 'member', bootstrap })
    bootstrap.push(...ring.addresses)
    workers.push({ identity, trainer, round, files, before, ring })
  }
  const results = await Promise.all(
    workers.map(async ({ identity, ring, round, files }): Promise<RoundResult> => {
      await ring.ready()
      const commitment = (await verifyDelta([files.delta])).bodySha3 ?? new Uint8Array(0)
      const isCheat = identity.peerId === workers[1]?.identity.peerId
      const vector = isCheat ? fed(round.difference) : round.difference
      return ring.allReduce(vector, { round: 1, weight: 72, commitment })
    }),
  )
  for (const [at, { identity, trainer, files, before, ring }] of workers.entries()) {
    const result = results[at]
    assert.ok(result !== undefined)
    const [deltas, traces] = [
      join(folder, identity.peerId, 'deltas'),
      join(folder, identity.peerId, 'traces'),
    ]
    await mkdir(deltas, { recursive: true })
    await mkdir(traces)
    const adapter = before.map((value, i) => value + (result.mean[i] ?? 0))
    await trainer.writeAdapter(adapter)
    await writeFile(join(deltas, 'round-1.delta'), files.delta)
    await writeFile(join(traces, 'round-1.trace'), files.trace)
    await writeFile(join(traces, 'round-1.state'), files.base)
    await writeFile(join(traces, 'round-2.state'), await trainer.exportState())
    const contributions = result.contributions.map(({ peerId, weight, commitment }) => ({
      peer_id: peerId,
      weight,
      commitment: commitment === null ? null : hex(commitment),
    }))
    const record = {
      round: 1,
      epoch: result.view.epoch,
      contributions,
      result_sha3_256: hex(result.hash),
      adapter_before: adapterSha3(before),
      adapter_after: adapterSha3(adapter),
    }
    await writeRoundRecord(traces, record, 5)
    const book = new VerdictBook('arith', null)
    const onVerdict = (verdict: AuditVerdict): void => void heard.push(verdict)
    t.after(await serveAudits({ exchange: ring, deltas, traces, book, validators: null, onVerdict }))
  }

  const identity = workerOf(9)
  const ring = await startRing(t, identity, new Float32Array(1), { role: 'observer', bootstrap })
  const bothSeen = Promise.withResolvers<void>()
  const look = (): void => {
    if (ring.peers().length === 2) bothSeen.resolve()
  }
  ring.on('peer', look)
  look()
  await bothSeen.promise
  const validator = new Validator({
    exchange: ring,
    identity,
    job: 'arith',
    train: jobConfig(),
    hasWorkerSeeds: true,
    outer: 'average',
    traceKeepRounds: 16,
    config: validatorConfigSchema.parse({ sample_rate: 1 }),
    attestation: { required: false, trustedKeyNames: [], roots: [], pcrs: [] },
    software: 'test',
    onVerdict: () => undefined,
    onTrouble: (what, error) => assert.fail(`${what}: ${String(error)}`),
    openTrainer: pool.lend,
  })
  return { verdicts: await validator.auditNewRounds(new AbortController().signal), heard }
}

const states = new Map<string, Uint8Array>()

/** The state of a fresh trainer of this configuration. */
async function fresh(config: Parameters<TrainerPool['take']>[0]): Promise<Uint8Array> {
  const key = JSON.stringify(config)
  const kept = states.get(key) ?? (await (await pool.take(config)).exportState())
  states.set(key, kept)
  return kept
}

describe('a validator beside a ring', () => {
  it('accepts honest workers and finds what the ring applied to be what they signed', async (t) => {
    const { verdicts, heard } = await auditedRound(t, (values) => values)
    assert.deepEqual(
      verdicts.map(({ result }) => result),
      ['accepted', 'accepted'],
    )
    for (const { checks, quality } of verdicts) {
      assert.equal(checks.find(({ name }) => name === 'expected')?.ok, true)
      assert.match(
        quality.find(({ name }) => name === 'round_sum')?.detail ?? '',
        /the mean of 2 signed deltas to within/,
      )
    }
    assert.equal(heard.length, 4, 'both workers took both verdicts')
  })

  it('sees a worker that feeds the ring another vector than it signed', async (t) => {
    const { verdicts } = await auditedRound(t, (values) => values.map((value) => 5 * value))
    for (const { quality } of verdicts) {
      assert.equal(quality.find(({ name }) => name === 'round_sum')?.ok, false)
    }
  })
})
