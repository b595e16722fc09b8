/** A validator beside workers: it draws from the result, fetches, replays, publishes; workers take the verdicts. */

import assert from 'node:assert/strict'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { resolveConfig, type Trainer } from '@gym-node/gspo'
import { verifyDelta, type Identity } from '@gym-node/wire'
import { adapterSha3 } from '../src/delta-tools/adapter.ts'
import {
  AUDIT_PROTOCOL,
  decodeVerdicts,
  encodeRequest,
  type Exchange,
} from '../src/validate/audit-protocol.ts'
import { serveAudits } from '../src/validate/audit-service.ts'
import { readBaseState } from '../src/validate/replay-files.ts'
import { readRoundRecords, writeRoundRecord, type RoundRecord } from '../src/validate/round-records.ts'
import { Validator, type ValidatorParts } from '../src/validate/validator.ts'
import { validatorConfigSchema } from '../src/validate/validator-config.ts'
import { VerdictBook } from '../src/validate/verdict-book.ts'
import { openVerdict, type AuditVerdict } from '../src/validate/verdict-message.ts'
import { workerSeed } from '../src/validate/worker-seed.ts'
import { temporaryFolder } from './delta-tools-fixtures.ts'
import { filesOf, hex, jobConfig, TrainerPool, workerOf, workRound, type Round } from './validate-fixtures.ts'
import { MemoryNetwork } from './validate-network.ts'

const pool = new TrainerPool()
const workers = [workerOf(1), workerOf(2), workerOf(3)]
const validatorIdentity = workerOf(9)
const rounds = new Map<string, Round>()
let trainer: Trainer

before(async () => {
  for (const identity of workers) {
    const config = jobConfig({ seed: workerSeed(identity.peerId) })
    trainer = await pool.take(config)
    rounds.set(identity.peerId, await workRound(trainer, { identity, round: 1, config, steps: 2 }))
  }
})
after(() => pool.close())

interface Setting {
  readonly network: MemoryNetwork
  readonly books: Map<string, VerdictBook>
  readonly heard: AuditVerdict[]
}

/** What a test changes: the files that the second worker hands out, the vector it feeds the ring, who keeps no trace. */
interface Cheat {
  readonly files?: (round: Round) => Round
  readonly fed?: (difference: Float32Array) => Float32Array
  readonly without?: readonly string[]
}

/** Workers that have committed round 1 and serve what they keep of it. */
async function startWorkers(t: Pick<TestContext, 'after'>, cheat: Cheat = {}): Promise<Setting> {
  const folder = await temporaryFolder(t)
  const setting: Setting = { network: new MemoryNetwork(), books: new Map(), heard: [] }
  const kept = workers.map((identity) => {
    const round = rounds.get(identity.peerId)
    assert.ok(round !== undefined)
    const isCheat = identity === workers[1]
    const handed = isCheat ? (cheat.files?.(round) ?? round) : round
    return {
      identity,
      handed,
      fed: isCheat && cheat.fed !== undefined ? cheat.fed(handed.difference) : handed.difference,
    }
  })
  const files = await Promise.all(kept.map(({ handed }) => filesOf(handed)))
  const commitments = await Promise.all(
    files.map(async ({ delta }) => hex((await verifyDelta([delta])).bodySha3 ?? new Uint8Array(0))),
  )
  const { base = new Uint8Array(0) } = files[0] ?? {}
  const before = readBaseState(base).adapter
  const after = before.map(
    (value, i) => value + kept.reduce((sum, { fed }) => sum + (fed[i] ?? 0), 0) / kept.length,
  )
  await trainer.importState(base)
  await trainer.writeAdapter(after)
  const next = await trainer.exportState()
  const record: RoundRecord = {
    round: 1,
    epoch: 1,
    contributions: kept.map(({ identity }, at) => ({
      peer_id: identity.peerId,
      weight: 72, // 2 steps of 6 prompts with 6 completions each
      commitment: commitments[at] ?? null,
    })),
    result_sha3_256: 'ab'.repeat(32),
    adapter_before: adapterSha3(before),
    adapter_after: adapterSha3(after),
  }
  for (const [at, { identity }] of kept.entries()) {
    const [deltas, traces] = [
      join(folder, identity.peerId, 'deltas'),
      join(folder, identity.peerId, 'traces'),
    ]
    await mkdir(deltas, { recursive: true })
    await mkdir(traces, { recursive: true })
    const own = files[at]
    assert.ok(own !== undefined)
    await writeFile(join(deltas, 'round-1.delta'), own.delta)
    if (cheat.without?.includes(identity.peerId) !== true)
      await writeFile(join(traces, 'round-1.trace'), own.trace)
    await writeFile(join(traces, 'round-1.state'), own.base)
    await writeFile(join(traces, 'round-2.state'), next)
    await writeRoundRecord(traces, record, 5)
    const book = new VerdictBook('arith', [validatorIdentity.peerId])
    setting.books.set(identity.peerId, book)
    const onVerdict = (verdict: AuditVerdict): void => void setting.heard.push(verdict)
    const parts = { deltas, traces, book, validators: [validatorIdentity.peerId], onVerdict }
    t.after(await serveAudits({ ...parts, exchange: setting.network.join(identity.peerId) }))
  }
  return setting
}

function validatorOf(
  exchange: Exchange,
  identity: Identity,
  change: Partial<ValidatorParts> = {},
): Validator {
  const config = validatorConfigSchema.parse({ sample_rate: 1 })
  return new Validator({
    exchange,
    identity,
    job: 'arith',
    train: jobConfig(),
    hasWorkerSeeds: true,
    outer: 'average',
    traceKeepRounds: 16,
    config,
    attestation: { required: false, trustedKeyNames: [], roots: [], pcrs: [] },
    software: 'test',
    onVerdict: () => undefined,
    onTrouble: (what, error) => assert.fail(`${what}: ${String(error)}`),
    openTrainer: pool.lend,
    ...change,
  })
}

const never = new AbortController().signal

describe('a validator', () => {
  it('accepts honest workers, and every worker takes the signed verdicts', async (t) => {
    const { network, books, heard } = await startWorkers(t)
    const validator = validatorOf(network.join(validatorIdentity.peerId), validatorIdentity)
    const verdicts = await validator.auditNewRounds(never)
    assert.deepEqual(
      verdicts.map(({ worker_id, result }) => [worker_id, result]),
      workers.map(({ peerId }) => [peerId, 'accepted']),
    )
    assert.equal(heard.length, 9, 'three verdicts, three workers')
    for (const book of books.values()) assert.deepEqual(book.all().map(openVerdict), verdicts)
    const failed = verdicts.flatMap(({ quality }) => quality).filter(({ ok }) => ok === false)
    assert.deepEqual(failed, [], 'honest deltas pass the quality check')
    assert.deepEqual(await validator.auditNewRounds(never), [], 'a round is audited once')
    const stranger = network.join('someone')
    const options = { maxResponseBytes: 1e6, timeoutMs: 1000 }
    const answer = await stranger.request(
      workers[0]?.peerId ?? '',
      AUDIT_PROTOCOL,
      encodeRequest({ want: 'verdicts' }),
      options,
    )
    assert.equal(decodeVerdicts(answer).length, 3, 'verdicts are for everybody')
  })

  it('rejects the one that scaled its delta, and says so', async (t) => {
    const forge = (round: Round): Round => ({
      ...round,
      difference: round.difference.map((value) => 3 * value),
    })
    const { network } = await startWorkers(t, { files: forge })
    const verdicts = await validatorOf(
      network.join(validatorIdentity.peerId),
      validatorIdentity,
    ).auditNewRounds(never)
    assert.deepEqual(
      verdicts.map(({ result }) => result),
      ['accepted', 'rejected', 'accepted'],
    )
    const adapter = verdicts[1]?.checks.find(({ name }) => name === 'adapter')
    assert.match(adapter?.detail ?? '', /3 times the replayed delta/)
    assert.equal(
      verdicts[1]?.quality.find(({ name }) => name === 'norm')?.ok,
      false,
      'its norm stands out as well',
    )
  })

  it('sees that a worker fed the ring another vector than it signed', async (t) => {
    const { network } = await startWorkers(t, { fed: (difference) => difference.map((value) => -value) })
    const validator = validatorOf(network.join(validatorIdentity.peerId), validatorIdentity)
    const verdicts = await validator.auditNewRounds(never)
    for (const { result, quality } of verdicts) {
      assert.equal(result, 'accepted', 'what each signed replays')
      const sum = quality.find(({ name }) => name === 'round_sum')
      assert.equal(sum?.ok, false)
      assert.match(sum?.detail ?? '', /somebody fed it another vector than it signed/)
    }
  })

  it('rejects a delta other than the one its worker was bound to', async (t) => {
    const { network } = await startWorkers(t)
    const peers = network.join(validatorIdentity.peerId)
    const other = rounds.get(workers[1]?.peerId ?? '')
    assert.ok(other !== undefined)
    const swapped = await filesOf({ ...other, difference: other.difference.map((value) => 2 * value) })
    const exchange: Exchange = {
      ...peers,
      request: async (peer, protocol, request, options) => {
        const isDelta = Buffer.from(request).includes('"delta"')
        return isDelta && peer === workers[1]?.peerId
          ? swapped.delta
          : peers.request(peer, protocol, request, options)
      },
    }
    const verdicts = await validatorOf(exchange, validatorIdentity).auditNewRounds(never)
    assert.deepEqual(
      verdicts.map(({ result }) => result),
      ['accepted', 'rejected', 'accepted'],
    )
    const [failed] = verdicts[1]?.checks.filter(({ ok }) => ok === false) ?? []
    assert.match(failed?.detail ?? '', /body hash is [0-9a-f]{64}, asked for was [0-9a-f]{64}/)
  })

  it('reports a worker that does not hand out its trace as unavailable, not as a cheat', async (t) => {
    const { network } = await startWorkers(t, { without: [workers[2]?.peerId ?? ''] })
    const verdicts = await validatorOf(
      network.join(validatorIdentity.peerId),
      validatorIdentity,
    ).auditNewRounds(never)
    assert.deepEqual(
      verdicts.map(({ result }) => result),
      ['accepted', 'accepted', 'unavailable'],
    )
    assert.match(verdicts[2]?.checks[0]?.detail ?? '', /trace: the trace of round 1 is not kept here/)
  })

  it('passes over a round whose traces honest workers may have dropped, instead of blaming them', async (t) => {
    const { network, heard } = await startWorkers(t)
    const troubles: string[] = []
    const validator = validatorOf(network.join(validatorIdentity.peerId), validatorIdentity, {
      traceKeepRounds: 0,
      onTrouble: (what, error) => troubles.push(`${what}: ${String(error)}`),
    })
    assert.deepEqual(await validator.auditNewRounds(never), [])
    assert.deepEqual(heard, [])
    assert.equal(troubles.length, 1)
    assert.match(
      troubles[0] ?? '',
      /audit of round 1: .*the ring is in round 1 and keeps traces for 0: passed over/,
    )
  })

  it('looks only at what the draw picks', async (t) => {
    const { network } = await startWorkers(t)
    const config = validatorConfigSchema.parse({ sample_rate: 0 })
    const validator = validatorOf(network.join(validatorIdentity.peerId), validatorIdentity, { config })
    assert.deepEqual(await validator.auditNewRounds(never), [])
  })

  it('compares with the held-out set when it has one', async (t) => {
    const { network } = await startWorkers(t)
    const heldOut = join(resolveConfig(jobConfig()).model, 'test.jsonl')
    const config = validatorConfigSchema.parse({
      sample_rate: 1,
      held_out: heldOut,
      quality: { evaluation_limit: 24 },
    })
    const verdicts = await validatorOf(network.join(validatorIdentity.peerId), validatorIdentity, {
      config,
    }).auditNewRounds(never)
    for (const { quality } of verdicts) {
      assert.match(
        quality.find(({ name }) => name === 'held_out_reward')?.detail ?? '',
        /reward 0?\.?\d.* 24 samples$/,
      )
    }
  })
})

describe('a worker', () => {
  it('gives traces to listed validators only', async (t) => {
    const { network } = await startWorkers(t)
    const stranger = network.join('someone')
    const options = { maxResponseBytes: 1e8, timeoutMs: 1000 }
    const asked = stranger.request(
      workers[0]?.peerId ?? '',
      AUDIT_PROTOCOL,
      encodeRequest({ want: 'trace', round: 1 }),
      options,
    )
    await assert.rejects(asked, /someone is not on this node's list of validators/)
  })

  it('keeps records of the last rounds only', async (t) => {
    const hash = 'ab'.repeat(32)
    const empty = {
      epoch: 1,
      contributions: [],
      result_sha3_256: hash,
      adapter_before: hash,
      adapter_after: hash,
    }
    const folder = await temporaryFolder(t)
    for (let round = 1; round <= 6; round += 1) await writeRoundRecord(folder, { ...empty, round }, 3)
    await writeFile(join(folder, 'round-99.record.json'), '{damaged')
    assert.deepEqual(
      (await readRoundRecords(folder)).map(({ round }) => round),
      [4, 5, 6],
    )
    assert.equal((await readdir(folder)).length, 4)
  })
})
