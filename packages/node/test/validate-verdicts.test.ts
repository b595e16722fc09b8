/** Draws are fair and follow the result; verdicts are signed; witnesses outvote a liar; hostile bytes are refused. */

import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { GspoError, type GSPOConfig, type Trainer } from '@gym-node/gspo'
import fc from 'fast-check'
import { NodeError, type NodeErrorCode } from '../src/errors.ts'
import { VerdictStore, type SignedVerdict } from '../src/state/verdict-store.ts'
import { decodeRecords, decodeRequest, encodeRecords, encodeRequest } from '../src/validate/audit-protocol.ts'
import { auditDraw, isAudited } from '../src/validate/audit-selection.ts'
import type { RoundRecord } from '../src/validate/round-records.ts'
import { TrainerCache } from '../src/validate/trainer-cache.ts'
import { openVerdict, signVerdict, type AuditVerdict } from '../src/validate/verdict-message.ts'
import { VerdictBook } from '../src/validate/verdict-book.ts'
import { agreedRounds } from '../src/validate/witnesses.ts'
import { workerSeed } from '../src/validate/worker-seed.ts'
import { temporaryFolder } from './delta-tools-fixtures.ts'
import { workerOf } from './validate-fixtures.ts'

const hash = (byte: string): string => byte.repeat(32)

function refusedWith(code: NodeErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof NodeError && error.code === code
}

describe('the store of verdicts', () => {
  const verdictOf = (round: number, workerId: string): SignedVerdict => {
    const verdict: AuditVerdict = {
      version: 1,
      job: 'arith',
      round,
      worker_id: workerId,
      validator_id: workerOf(9).peerId,
      result: 'accepted',
      checks: [],
      quality: [],
      result_sha3_256: hash('ab'),
      delta_sha3_256: null,
      trace_sha3_256: null,
      base_sha3_256: null,
      timestamp: '2026-01-31T12:00:00.000Z',
      replay_seconds: 0,
      software: 'test',
    }
    return { verdict, signed: signVerdict(verdict, workerOf(9)) }
  }

  it('gives back after a restart what it kept, oldest round first, whatever a worker calls itself', async (t) => {
    const root = await temporaryFolder(t)
    const store = await VerdictStore.open(root)
    const kept = [verdictOf(10, 'b'), verdictOf(2, '../../escape'), verdictOf(2, 'a/b\0')]
    for (const one of kept) await store.keep(one)
    await store.keep(kept[0] ?? assert.fail())
    const again = await (await VerdictStore.open(root)).load(() => assert.fail('a bad file'))
    assert.deepEqual(
      again.map(({ verdict }) => verdict.round),
      [2, 2, 10],
    )
    assert.deepEqual(
      new Set(again.map(({ verdict }) => verdict.worker_id)),
      new Set(['b', '../../escape', 'a/b\0']),
    )
    assert.deepEqual(await readdir(root), ['verdicts'])
  })

  it('passes over a file that was changed, and says so', async (t) => {
    const root = await temporaryFolder(t)
    const store = await VerdictStore.open(root)
    await store.keep(verdictOf(1, 'w'))
    const [name = ''] = await readdir(join(root, 'verdicts'))
    const path = join(root, 'verdicts', name)
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replace('"accepted"', '"rejected"'))
    const bad: string[] = []
    assert.deepEqual(await store.load((file) => bad.push(file)), [])
    assert.deepEqual(bad, [path])
  })
})

describe('the draw of audits', () => {
  const draw = {
    job: 'arith',
    round: 7,
    resultSha3: hash('ab'),
    workerId: 'worker',
    validatorId: 'validator',
  }

  it('is the published formula', () => {
    // From Python: int.from_bytes(hashlib.sha3_256('\0'.join(['gym-audit-v1', 'arith', '7', 'ab' * 32, 'worker',
    // 'validator']).encode()).digest()[:6], 'big')
    assert.equal(auditDraw(draw), 143295027299416 / 2 ** 48)
  })

  it('changes with every field', () => {
    const others = [
      { ...draw, job: 'x' },
      { ...draw, round: 8 },
      { ...draw, resultSha3: hash('ac') },
      { ...draw, workerId: 'w2' },
      { ...draw, validatorId: 'v2' },
    ]
    for (const other of others) assert.notEqual(auditDraw(other), auditDraw(draw))
  })

  it('hits the rate', () => {
    const rounds = Array.from({ length: 4000 }, (_, round) => isAudited({ ...draw, round }, 0.1))
    const hits = rounds.filter(Boolean).length
    // Binomial(4000, 0.1): mean 400, standard deviation 19; five deviations.
    assert.ok(Math.abs(hits - 400) < 95, String(hits))
    assert.equal(isAudited(draw, 0), false)
    assert.equal(isAudited(draw, 1), true)
  })
})

describe('the seed of a worker', () => {
  it('is the published formula', () => {
    // From Python: int.from_bytes(hashlib.sha3_256(b'gym-seed-v1\0' + b'12D3KooWTest').digest()[:4], 'little')
    assert.equal(workerSeed('12D3KooWTest'), 3671942404)
  })
})

const validator = workerOf(9)
const verdict: AuditVerdict = {
  version: 1,
  job: 'arith',
  round: 7,
  worker_id: 'worker',
  validator_id: validator.peerId,
  result: 'rejected',
  checks: [{ name: 'adapter', ok: false, detail: 'relative error 0.5' }],
  quality: [{ name: 'norm', ok: null, detail: 'too few' }],
  result_sha3_256: hash('01'),
  delta_sha3_256: hash('02'),
  trace_sha3_256: hash('03'),
  base_sha3_256: hash('04'),
  timestamp: '2026-01-31T12:00:00.000Z',
  replay_seconds: 1.5,
  software: 'gym-node test',
}

describe('a published verdict', () => {
  const signed = signVerdict(verdict, validator)

  it('opens to what was signed', () => {
    assert.deepEqual(openVerdict(signed), verdict)
  })

  it('cannot be changed anywhere', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = Uint8Array.from(signed)
        bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ flip
        assert.throws(() => openVerdict(bytes), NodeError)
      }),
      { numRuns: 200, seed: 5 },
    )
  })

  it('cannot be made in another name', () => {
    assert.throws(() => signVerdict(verdict, workerOf(8)), refusedWith('BAD_REQUEST'))
    const other = signVerdict({ ...verdict, validator_id: workerOf(8).peerId }, workerOf(8))
    const forged = Buffer.from(Buffer.from(other).toString().replaceAll(workerOf(8).peerId, validator.peerId))
    assert.throws(() => openVerdict(forged), refusedWith('VERIFY_FAILED'))
  })

  it('is refused when it is huge, no JSON or of another form', () => {
    for (const bytes of [new Uint8Array(300_000), Buffer.from('{'), Buffer.from('{"verdict":1}')]) {
      assert.throws(() => openVerdict(bytes), refusedWith('BAD_REQUEST'))
    }
  })

  it('is kept once, for the own job, from validators on the list', () => {
    const book = new VerdictBook('arith', [validator.peerId])
    assert.deepEqual(book.take(signed), verdict)
    assert.equal(book.take(signed), null, 'known already')
    assert.deepEqual(
      book.all().map((bytes) => openVerdict(bytes)),
      [verdict],
    )
    assert.throws(() => new VerdictBook('other', null).take(signed), refusedWith('BAD_REQUEST'))
    assert.throws(() => new VerdictBook('arith', ['nobody']).take(signed), refusedWith('BAD_REQUEST'))
  })
})

describe('witnesses', () => {
  const record: RoundRecord = {
    round: 3,
    epoch: 1,
    contributions: ['a', 'b', 'c'].map((peer_id) => ({ peer_id, weight: 36, commitment: hash('0a') })),
    result_sha3_256: hash('01'),
    adapter_before: hash('02'),
    adapter_after: hash('03'),
  }
  const lie = { ...record, adapter_before: hash('ff') }

  it('in agreement make a round, whatever the order of contributors', () => {
    const other = { ...record, contributions: [...record.contributions].reverse() }
    const testimonies = [
      { peerId: 'a', records: [record] },
      { peerId: 'b', records: [other] },
    ]
    assert.deepEqual(agreedRounds(testimonies, 2), [record])
  })

  it('outvote a liar, who alone makes nothing', () => {
    const testimonies = ['a', 'b', 'c'].map((peerId) => ({
      peerId,
      records: [peerId === 'c' ? lie : record],
    }))
    assert.deepEqual(agreedRounds(testimonies, 2), [record])
    assert.deepEqual(agreedRounds([{ peerId: 'c', records: [lie, lie, lie] }], 2), [], 'one voice a member')
  })

  it('in a tie make nothing', () => {
    const testimonies = [
      { peerId: 'a', records: [record] },
      { peerId: 'b', records: [lie] },
    ]
    assert.deepEqual(agreedRounds(testimonies, 1), [])
  })
})

describe('the audit protocol', () => {
  it('carries requests and records, and refuses anything else', () => {
    assert.deepEqual(decodeRequest(encodeRequest({ want: 'trace', round: 4 })), { want: 'trace', round: 4 })
    for (const bad of [
      '',
      'null',
      '{"want":"keys"}',
      '{"want":"delta","round":-1}',
      '{"want":"delta","round":"../../x"}',
    ]) {
      assert.throws(() => decodeRequest(Buffer.from(bad)), refusedWith('BAD_REQUEST'), bad)
    }
    assert.deepEqual(decodeRecords(encodeRecords([])), [])
    assert.throws(() => decodeRecords(Buffer.from('[{"round":1}]')), refusedWith('BAD_REQUEST'))
  })
})

describe('the trainer of the last replay', () => {
  const config = (change: object = {}): GSPOConfig => ({ model: 'm', dataset: 'd', ...change })
  function opened(): { cache: TrainerCache; log: string[]; fail: (error: Error | null) => void } {
    const log: string[] = []
    let fault: Error | null = null
    const cache = new TrainerCache(async ({ learning_rate: rate }) => {
      log.push(`open ${rate}`)
      const call = async (): Promise<never> => Promise.reject(fault ?? new Error('not in this test'))
      const readAdapter = async (): Promise<Float32Array> => (fault === null ? new Float32Array(1) : call())
      const close = async (): Promise<void> => void log.push(`close ${rate}`)
      return { readAdapter, close, replay: call } as unknown as Trainer
    })
    return { cache, log, fail: (error) => (fault = error) }
  }

  it('stays open for the next with the same settings, and makes room for others', async () => {
    const { cache, log } = opened()
    for (const rate of [1, 1, 2, 1]) {
      const trainer = await cache.lend(config({ learning_rate: rate }))
      assert.equal((await trainer.readAdapter()).length, 1)
      await trainer.close()
    }
    await cache.close()
    await cache.close()
    assert.deepEqual(log, ['open 1', 'close 1', 'open 2', 'close 2', 'open 1', 'close 1'])
  })

  it('is opened anew when its engine died, not when a call failed', async () => {
    const { cache, log, fail } = opened()
    const trainer = await cache.lend(config({ learning_rate: 1 }))
    fail(new GspoError('BAD_TRACE', 'as told'))
    await assert.rejects(trainer.readAdapter(), { code: 'BAD_TRACE' })
    assert.deepEqual(log, ['open 1'])
    fail(new GspoError('ENGINE_DIED', 'as told'))
    await assert.rejects(trainer.readAdapter(), { code: 'ENGINE_DIED' })
    fail(null)
    await (await cache.lend(config({ learning_rate: 1 }))).readAdapter()
    assert.deepEqual(log, ['open 1', 'close 1', 'open 1'])
  })
})
