/** Lossy deltas with error feedback: honest ones replay, on other batching too; what a residual could hide is caught. */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Trainer } from '@gym-node/gspo'
import { verifyDelta } from '@gym-node/wire'
import { fetchResidual } from '../src/validate/fetched-residual.ts'
import { replayDelta } from '../src/validate/replay.ts'
import type { RoundRecord } from '../src/validate/round-records.ts'
import type {
  ReplayCheckName,
  ReplayInput,
  ReplayVerdict,
  ResidualFiles,
} from '../src/validate/replay-types.ts'
import {
  filesOf,
  floatBytes,
  hex,
  honest,
  jobConfig,
  TrainerPool,
  workRound,
  type Forgery,
  type Round,
} from './validate-fixtures.ts'

const pool = new TrainerPool()
const config = jobConfig({ prompts_per_step: 4, steps_per_generation: 1 })
let trainer: Trainer
let round1: Round
let round2: Round

before(async () => {
  trainer = await pool.take(config)
  round1 = await workRound(trainer, { identity: honest, round: 1, config, steps: 1 })
  round2 = await workRound(trainer, { identity: honest, round: 2, config, steps: 1 })
})
after(() => pool.close())

type Files = Awaited<ReturnType<typeof filesOf>>

/** The second round's files and the first's, with error feedback from one to the other. */
async function chain(
  dtype: 'bf16' | 'i8' | 'bitdelta',
  forgery: Partial<NonNullable<Forgery['feedback']>> & { header?: Forgery['header'] } = {},
  first: { after?: Float32Array } = {},
): Promise<{ previous: Files; files: Files; left: Float32Array }> {
  const previous = await filesOf(round1, { dtype, feedback: { before: null, ...first } })
  const { header, ...lie } = forgery
  const left = lie.before ?? previous.lost
  const feedback = { before: left, ...lie }
  return { previous, left, files: await filesOf(round2, { dtype, feedback, ...(header && { header }) }) }
}

function replay(
  { previous, files, left }: { previous: Files; files: Files; left: Float32Array },
  change: Partial<ReplayInput> = {},
): Promise<ReplayVerdict> {
  const residual = {
    before: floatBytes(left),
    after: floatBytes(files.lost),
    previousDelta: previous.delta,
  }
  const { delta, trace, base } = files
  return replayDelta({
    delta,
    trace,
    base,
    residual,
    config,
    openTrainer: pool.lend,
    pick: () => 0,
    ...change,
  })
}

function failed(verdict: ReplayVerdict): ReplayCheckName[] {
  return verdict.checks.filter(({ ok }) => ok === false).map(({ name }) => name)
}

function detail(verdict: ReplayVerdict, name: ReplayCheckName): string {
  return verdict.checks.find((check) => check.name === name)?.detail ?? ''
}

function scaled(values: Float32Array, by: number): Float32Array {
  return values.map((value) => by * value)
}

for (const dtype of ['bf16', 'i8', 'bitdelta'] as const) {
  describe(`an honest delta in ${dtype} with error feedback`, () => {
    it('replays bit by bit, what it had left over and leaves over included', async () => {
      const verdict = await replay(await chain(dtype))
      assert.deepEqual(failed(verdict), [])
      assert.equal(verdict.ok, true)
      assert.equal(verdict.comparison?.isIdentical, true)
      assert.equal(detail(verdict, 'residual'), 'what the delta of the round before left over')
      assert.equal(detail(verdict, 'residual_after'), 'bit-identical')
    })

    it('replays within the tolerance when numbers are added in another order, and not when identity is asked', async () => {
      const other = { config: { ...config, micro_batch_tokens: 48 } }
      const files = await chain(dtype, { header: other })
      const verdict = await replay(files)
      assert.deepEqual(failed(verdict), [], JSON.stringify(verdict.comparison))
      assert.match(detail(verdict, 'residual_after'), /off by [\d.e-]+ of the replayed delta/)
      assert.ok((verdict.comparison?.relativeError ?? 1) < 1e-3)
      const strict = await replay(files, { tolerance: { require_identical: true } })
      assert.ok(failed(strict).includes('residual_after'), failed(strict).join())
    })
  })

  describe(`a cheat with a delta in ${dtype}`, () => {
    it('that scales it is caught', async () => {
      const verdict = await replay(await chain(dtype, { instead: scaled(round2.difference, 1.5) }))
      assert.deepEqual(failed(verdict), ['adapter', 'residual_after'])
      assert.match(detail(verdict, 'adapter'), /relative error 0\.[2-9].*; allowed 0\.001/)
    })

    it('that adds noise of 5 % is caught', async () => {
      const size = Math.sqrt(round2.difference.reduce((sum, x) => sum + x * x, 0) / round2.difference.length)
      const noisy = round2.difference.map((x, i) => x + 0.05 * Math.SQRT2 * size * Math.sin(12.9898 * i))
      const verdict = await replay(await chain(dtype, { instead: noisy }))
      assert.ok(failed(verdict).includes('adapter'), failed(verdict).join())
    })

    it('that adds a residual of its own making is caught by the delta it should come from', async () => {
      const poison = scaled(round1.difference, -3)
      const verdict = await replay(await chain(dtype, { before: poison }))
      assert.deepEqual(failed(verdict), ['residual'])
      assert.match(detail(verdict, 'residual'), /the delta of the round before left [0-9a-f]{64}/)
    })

    it('that prepared it a round ahead is caught by what the delta before can leave over', async () => {
      const poison = scaled(round1.difference, -3)
      const verdict = await replay(await chain(dtype, { before: poison }, { after: poison }))
      assert.deepEqual(failed(verdict), ['residual'])
      assert.match(detail(verdict, 'residual'), /no delta that rounds to the one of the round before/)
    })

    it('that lies about what it leaves over is caught in the same round', async () => {
      const verdict = await replay(await chain(dtype, { after: scaled(round2.difference, 0.5) }))
      assert.deepEqual(failed(verdict), ['residual_after'])
    })
  })
}

describe('a residual', () => {
  it('is refused after a round that counted no delta, and when its file is missing, another or no numbers', async () => {
    const { files, previous, left } = await chain('i8')
    const rest = { after: floatBytes(files.lost), previousDelta: previous.delta }
    const before = floatBytes(left)
    const cases: [ReplayInput['residual'], RegExp][] = [
      [{ ...rest, before, previousDelta: null }, /counted no delta of this worker/],
      [rest, /which is not here/],
      [{ ...rest, before: before.subarray(4) }, /the delta was signed over/],
      [{ ...rest, before, previousDelta: files.trace }, /does not verify/],
    ]
    for (const [residual, why] of cases) {
      const verdict = await replay({ previous, files, left }, { residual })
      assert.deepEqual(failed(verdict), ['residual'])
      assert.match(detail(verdict, 'residual'), why)
      assert.equal(verdict.seconds, 0, 'nothing is computed')
    }
    const unfit = await filesOf(round2, { dtype: 'i8', feedback: { before: null } })
    const alone = await replayDelta({ ...unfit, residual: {}, config, openTrainer: pool.lend })
    assert.equal(alone.ok, true, 'a first round needs no file of anything before it')
  })

  it('of a delta that switched to f32 is sent whole', async () => {
    const { lost: left, delta } = await filesOf(round1, { dtype: 'i8', feedback: { before: null } })
    const files = await filesOf(round2, { dtype: 'f32', feedback: { before: left } })
    const previous = { ...files, delta }
    const verdict = await replay({ previous, files, left })
    assert.deepEqual(failed(verdict), [])
    assert.equal(verdict.comparison?.isIdentical, true)
  })
})

describe('fetchResidual', () => {
  const asked = async (o: {
    dtype: 'i8' | 'f32'
    hasBefore: boolean
    previous?: RoundRecord
    round?: number
    without?: string
  }): Promise<{ found: ResidualFiles | string; asked: string[] }> => {
    const feedback = { before: o.hasBefore ? round1.difference : null }
    const { delta } = await filesOf(round2, o.dtype === 'f32' ? {} : { dtype: o.dtype, feedback })
    const previous = await filesOf(round1, { dtype: 'i8', feedback: { before: null } })
    const seen: string[] = []
    const { round = 2 } = o
    const found = await fetchResidual(
      delta,
      { round, workerId: honest.peerId, previous: o.previous },
      async (want, of) => {
        seen.push(`${want} ${of}`)
        if (o.without === `${want} ${of}`) return `${want}: gone`
        return want === 'delta' ? previous.delta : Buffer.from(`${want} ${of}`)
      },
    )
    return { found, asked: seen }
  }
  const record = async (contributions: RoundRecord['contributions']): Promise<RoundRecord> => ({
    round: 1,
    epoch: 1,
    contributions,
    result_sha3_256: 'ab'.repeat(32),
    adapter_before: 'ab'.repeat(32),
    adapter_after: 'ab'.repeat(32),
  })
  const counted = async (commitment: string | null): Promise<RoundRecord> =>
    record([{ peer_id: honest.peerId, weight: 1, commitment }])

  it('asks for nothing about a delta without residual, and only for what a first one leaves over', async () => {
    assert.deepEqual(await asked({ dtype: 'f32', hasBefore: false }), { found: {}, asked: [] })
    assert.deepEqual((await asked({ dtype: 'i8', hasBefore: false })).asked, ['residual 2'])
  })

  it('gets the delta of the round before when the ring counted it, and holds it to its commitment', async () => {
    const { delta } = await filesOf(round1, { dtype: 'i8', feedback: { before: null } })
    const commitment = hex((await verifyDelta([delta])).bodySha3 ?? new Uint8Array(0))
    const good = await asked({ dtype: 'i8', hasBefore: true, previous: await counted(commitment) })
    assert.deepEqual(good.asked, ['residual 2', 'residual 1', 'delta 1'])
    assert.ok(typeof good.found === 'object' && good.found.previousDelta instanceof Uint8Array)
    const other = await asked({ dtype: 'i8', hasBefore: true, previous: await counted('00'.repeat(32)) })
    assert.ok(typeof other.found === 'string')
    assert.match(other.found, /the ring counted 0000/)
  })

  it('knows that there was no counted delta, where the record or the first round says so', async () => {
    for (const o of [{ previous: await record([]) }, { round: 1 }]) {
      const { found } = await asked({ dtype: 'i8', hasBefore: true, ...o })
      assert.ok(typeof found === 'object' && found.previousDelta === null)
    }
    const { found } = await asked({ dtype: 'i8', hasBefore: true })
    assert.ok(typeof found === 'object' && found.previousDelta === undefined, 'nobody remembers the round')
  })

  it('says which file was not handed out', async () => {
    const previous = await counted(null)
    for (const without of ['residual 2', 'residual 1', 'delta 1']) {
      const { found } = await asked({ dtype: 'i8', hasBefore: true, previous, without })
      assert.equal(found, `${without.split(' ')[0] ?? ''}: gone`)
    }
  })
})
