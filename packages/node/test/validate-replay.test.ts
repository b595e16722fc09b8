/** An honest round replays bit by bit; every cheat is caught, by the check that is meant for it. */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { decodeState, encodeState, type GSPOConfig, type StepTrace, type Trainer } from '@gym-node/gspo'
import { replayDelta } from '../src/validate/replay.ts'
import { readBaseState } from '../src/validate/replay-files.ts'
import type {
  ReplayCheckName,
  ReplayExpectations,
  ReplayInput,
  ReplayVerdict,
} from '../src/validate/replay-types.ts'
import { workerSeed } from '../src/validate/worker-seed.ts'
import {
  filesOf,
  hex,
  honest,
  jobConfig,
  TrainerPool,
  workerOf,
  workRound,
  type Forgery,
  type Round,
} from './validate-fixtures.ts'
import { adapterSha3 } from '../src/delta-tools/adapter.ts'

const pool = new TrainerPool()
const config = jobConfig()
let trainer: Trainer
let round1: Round
let round2: Round
let expected: ReplayExpectations

before(async () => {
  trainer = await pool.take(config)
  round1 = await workRound(trainer, { identity: honest, round: 1, config })
  round2 = await workRound(trainer, { identity: honest, round: 2, config })
  expected = {
    job: 'arith',
    round: 2,
    workerId: honest.peerId,
    seed: workerSeed(honest.peerId),
    adapterBefore: adapterSha3(readBaseState(round2.base).adapter),
  }
})
after(() => pool.close())

type Files = Pick<ReplayInput, 'delta' | 'trace' | 'base'>

function replay(files: Files, change: Partial<ReplayInput> = {}): Promise<ReplayVerdict> {
  return replayDelta({
    ...files,
    config,
    expected,
    openTrainer: pool.lend,
    pick: (below) => below - 1,
    ...change,
  })
}

function failed(verdict: ReplayVerdict): ReplayCheckName[] {
  return verdict.checks.filter(({ ok }) => ok === false).map(({ name }) => name)
}

function detail(verdict: ReplayVerdict, name: ReplayCheckName): string {
  return verdict.checks.find((check) => check.name === name)?.detail ?? ''
}

/** Asserts that a forged round is rejected by exactly these checks, and that the first one says why. */
async function caught(
  round: Round,
  forgery: Forgery,
  by: ReplayCheckName[],
  why: RegExp,
): Promise<ReplayVerdict> {
  const verdict = await replay(await filesOf(round, forgery))
  assert.equal(verdict.ok, false)
  assert.deepEqual(failed(verdict), by)
  const [first] = by
  assert.ok(first !== undefined)
  assert.match(detail(verdict, first), why)
  return verdict
}

/** The traces with one completion replaced. */
function withCompletion(
  traces: readonly StepTrace[],
  change: (
    completion: StepTrace['groups'][number]['completions'][number],
  ) => StepTrace['groups'][number]['completions'][number],
  isMeant: (step: number, group: number, completion: number) => boolean,
): StepTrace[] {
  return traces.map((trace, s) => ({
    ...trace,
    groups: trace.groups.map((group, g) => ({
      ...group,
      completions: group.completions.map((completion, c) =>
        isMeant(s, g, c) ? change(completion) : completion,
      ),
    })),
  }))
}

/** The round that a forger gets who trains honestly on forged traces: everything fits together but the forgery itself. */
async function retrained(round: Round): Promise<Round> {
  await trainer.importState(round.base)
  const replayed = await trainer.replay(round.traces)
  const start = readBaseState(round.base).adapter
  const adapter = await trainer.readAdapter()
  return {
    ...round,
    stats: replayed.map(({ stats }) => stats),
    after: await trainer.exportState(),
    difference: adapter.map((value, i) => value - (start[i] ?? 0)),
  }
}

describe('an honest round', () => {
  it('replays bit by bit', async () => {
    const verdict = await replay(await filesOf(round2))
    assert.deepEqual(failed(verdict), [])
    assert.equal(verdict.ok, true)
    assert.equal(detail(verdict, 'adapter'), 'bit-identical')
    assert.deepEqual(verdict.comparison, { ...verdict.comparison, isIdentical: true, relativeError: 0 })
    assert.deepEqual(verdict.stateAfter, round2.after)
    const skipped = verdict.checks.filter(({ ok }) => ok === null).map(({ name }) => name)
    assert.deepEqual(skipped, ['attestation', 'optimizer_state'], 'all other checks were made')
  })

  it("goes on from the previous round's replay, moments included", async () => {
    const first = await replay(await filesOf(round1), { expected: { round: 1 } })
    assert.equal(first.ok, true)
    const previousState = first.stateAfter ?? new Uint8Array(0)
    const second = await replay(await filesOf(round2), { expected: { ...expected, previousState } })
    assert.equal(second.ok, true)
    assert.equal(second.checks.find(({ name }) => name === 'optimizer_state')?.ok, true)
  })

  it('replays within the tolerance when numbers are added in another order', async () => {
    // Smaller micro-batches on the validator's side: another summation order, as another engine would have.
    const files = await filesOf(round2, { header: { config: { ...jobConfig(), micro_batch_tokens: 48 } } })
    const verdict = await replay(files)
    assert.equal(verdict.ok, true, JSON.stringify(verdict.checks.filter(({ ok }) => ok === false)))
    assert.equal(verdict.comparison?.isIdentical, false, 'it does differ')
    assert.ok((verdict.comparison?.relativeError ?? 1) < 0.02)
    const strict = await replay(files, { tolerance: { require_identical: true } })
    assert.deepEqual(failed(strict), ['adapter'])
  })

  it('replays bit by bit from a delta stored in bf16 or BitDelta, whose rounding is part of the claim', async () => {
    for (const dtype of ['bf16', 'bitdelta'] as const) {
      const verdict = await replay(await filesOf(round2, { dtype }))
      assert.equal(verdict.ok, true, dtype)
      assert.equal(verdict.comparison?.isIdentical, true, dtype)
    }
  })
})

describe('a cheat', () => {
  it('that scales the delta is caught, with the factor', async () => {
    const difference = round2.difference.map((value) => 1.5 * value)
    const verdict = await caught({ ...round2, difference }, {}, ['adapter'], /1\.5 times the replayed delta/)
    assert.ok(Math.abs((verdict.comparison?.scale ?? 0) - 1.5) < 1e-6)
  })

  it('that adds noise to the delta is caught', async () => {
    const amplitude =
      0.05 * Math.sqrt(round2.difference.reduce((sum, x) => sum + x * x, 0) / round2.difference.length)
    const difference = round2.difference.map(
      (value, i) => value + amplitude * Math.SQRT2 * Math.sin(12.9898 * i),
    )
    await caught({ ...round2, difference }, {}, ['adapter'], /relative error 0\.0[45]/)
  })

  it('that skips steps is caught by their number', async () => {
    const traces = round2.traces.slice(0, 2)
    const claim = { step_first: 4, step_last: 6 }
    await caught(
      { ...round2, traces },
      { metadata: claim },
      ['steps'],
      /claims 3 steps \(4 to 6\), the trace has 2/,
    )
  })

  it('that fills skipped steps with a copy of another is caught by the data', async () => {
    const [first, second] = round2.traces
    assert.ok(first !== undefined && second !== undefined)
    const traces = [first, second, { ...second, step: second.step + 1 }]
    const verdict = await replay(await filesOf({ ...round2, traces }))
    assert.ok(failed(verdict).includes('data_positions'), failed(verdict).join())
    assert.match(detail(verdict, 'data_positions'), /step 6, group 0: data position 24, expected 30/)
  })

  it('that starts from another base is caught by the ring’s hash, before anything is computed', async () => {
    const { adapterBefore } = expected
    assert.ok(typeof adapterBefore === 'string')
    const verdict = await caught(
      { ...round2, base: round1.base },
      { metadata: { state_before: adapterBefore } },
      ['base_state', 'steps'],
      /the base adapter's hash is [0-9a-f]{64}, expected/,
    )
    assert.equal(verdict.seconds, 0)
  })

  it('that starts from another base and owns up to it is caught when the ring’s adapter is known', async () => {
    const verdict = await replay(await filesOf({ ...round1, round: 2 }))
    assert.deepEqual(failed(verdict), ['base_state'])
    assert.match(detail(verdict, 'base_state'), /the adapter's hash is/)
  })

  it('that begins with other optimiser moments is caught by the previous replay', async () => {
    const state = decodeState(round2.base, trainer.info.adapterLayout)
    const fresh = { ...state.optimizer, firstMoment: new Float32Array(state.adapter.length) }
    const base = encodeState({ ...state, optimizer: fresh })
    const previousState = round1.after
    const verdict = await replay(await filesOf({ ...round2, base }), {
      expected: { ...expected, previousState },
    })
    assert.deepEqual(failed(verdict), ['optimizer_state'])
    assert.match(
      detail(verdict, 'optimizer_state'),
      /the moments differ from those after the previous round by 1 and 0 of their size/,
    )
  })

  it('that trains on rollouts of another model is caught by their logprobs', async () => {
    // The same worker at temperature 1.3: another distribution, as another model would be.
    const foreign = await pool.take(jobConfig({ temperature: 1.3 }))
    await foreign.importState(round2.base)
    const work = await workRound(foreign, { identity: honest, round: 2, config })
    const verdict = await replay(await filesOf(work))
    assert.ok(failed(verdict).includes('tokens'), failed(verdict).join())
    assert.match(detail(verdict, 'tokens'), /a logprob differs by .* recomputed/)
  })

  it('that trains on rollouts of another model and recomputes their logprobs honestly is caught by the seed', async () => {
    const foreign = await pool.take(jobConfig({ temperature: 1.3 }))
    await foreign.importState(round2.base)
    const work = await workRound(foreign, { identity: honest, round: 2, config, steps: 1 })
    await trainer.importState(round2.base)
    const [honestly] = await trainer.replay(work.traces)
    const traces = work.traces.map((trace) => ({
      ...trace,
      groups: trace.groups.map((group, g) => ({
        ...group,
        completions: group.completions.map((completion, c) => ({
          ...completion,
          logps: honestly?.groups[g]?.completions[c]?.logps ?? completion.logps,
        })),
      })),
    }))
    const forged = await retrained({ ...work, traces })
    const verdict = await replay(await filesOf(forged), { tolerance: { resample_share: 0.5 } })
    assert.deepEqual(failed(verdict), ['resampling'], 'logprobs, rewards and arithmetic are all right')
    assert.match(
      detail(verdict, 'resampling'),
      /token \d+ is \d+, drawn from [\d.e-]+ to [\d.e-]+, the seed draws [\d.e-]+/,
    )
  })

  it('that edits rewards is caught where it did', async () => {
    const traces = withCompletion(
      round2.traces,
      (completion) => ({
        ...completion,
        reward: 1 - completion.reward,
        components: completion.components.map((value) => 1 - value),
      }),
      (s, g, c) => s === 1 && g === 2 && c === 3,
    )
    const verdict = await replay(await filesOf({ ...round2, traces }))
    assert.ok(failed(verdict).includes('rewards'))
    assert.match(detail(verdict, 'rewards'), /^step 5, group 2, completion 3: reward [01], recomputed [01]$/)
  })

  it('that edits rewards and trains on them is caught by the rewards alone', async () => {
    const traces = withCompletion(
      round2.traces,
      (completion) => ({ ...completion, reward: 1, components: [1] }),
      (_s, _g, c) => c === 0,
    )
    const forged = await retrained({ ...round2, traces })
    await caught(forged, {}, ['rewards'], /recomputed 0; .* and \d+ more/)
  })

  it('that hands in an old round again is caught by its number', async () => {
    await caught(round1, {}, ['expected', 'base_state'], /round is 1, asked for was 2/)
  })

  it('that hands in an old round under a new number is caught by its base', async () => {
    await caught({ ...round1, round: 2 }, {}, ['base_state'], /the adapter's hash is/)
  })

  it('that hands in someone else’s trace is caught by the name in it', async () => {
    const thief = workerOf(2)
    const stolen = { workerId: honest.peerId }
    const expectations = { ...expected, workerId: thief.peerId, seed: workerSeed(thief.peerId) }
    const verdict = await replay(await filesOf({ ...round2, identity: thief }, { header: stolen }), {
      expected: expectations,
    })
    assert.deepEqual(failed(verdict), ['trace_owner'])
    assert.match(
      detail(verdict, 'trace_owner'),
      /worker is 12D3Koo\w+ in the trace, 12D3Koo\w+ in the delta; seed is/,
    )
  })

  it('that hands in someone else’s trace under its own name is caught by the seed', async () => {
    const thief = workerOf(2)
    const expectations = { ...expected, workerId: thief.peerId, seed: workerSeed(thief.peerId) }
    const verdict = await replay(await filesOf({ ...round2, identity: thief }), { expected: expectations })
    assert.deepEqual(failed(verdict), ['trace_owner'])
    assert.match(detail(verdict, 'trace_owner'), /^seed is \d+, this worker's is \d+$/)
  })

  it('that hands in someone else’s delta file is caught by the signature’s owner', async () => {
    const verdict = await replay(await filesOf(round2), {
      expected: { ...expected, workerId: workerOf(2).peerId },
    })
    assert.deepEqual(failed(verdict), ['expected'])
  })

  it('that claims compute which the trace does not show is caught', async () => {
    await caught(
      round2,
      { extra: { completions: 1000, generated_tokens: 99_999 } },
      ['metadata'],
      /completions is 1000, the trace shows 108; generated_tokens is 99999/,
    )
    await caught(
      round2,
      { metadata: { reward_mean: 0.9 } },
      ['metadata'],
      /reward_mean is 0\.9, the trace gives/,
    )
  })

  it('that trains with other settings is caught by the configuration', async () => {
    const changed: GSPOConfig = { ...jobConfig(), learning_rate: 1e-3, group_size: 12 }
    await caught(
      round2,
      { header: { config: changed } },
      ['config'],
      /group_size is 12, the job has 6; learning_rate is 0\.001/,
    )
  })

  it('that swaps the trace after signing is caught by its hash', async () => {
    const files = await filesOf(round2)
    const verdict = await replay({
      ...files,
      trace: (await filesOf({ ...round2, traces: round1.traces })).trace,
    })
    assert.ok(failed(verdict).includes('trace_hash'))
  })

  it('that changes the delta after signing is caught by checksum and signatures', async () => {
    const files = await filesOf(round2)
    const delta = Uint8Array.from(files.delta)
    delta[delta.length >> 1] = (delta[delta.length >> 1] ?? 0) ^ 1
    const verdict = await replay({ ...files, delta })
    assert.ok(failed(verdict).includes('signature'))
    assert.equal(verdict.seconds, 0)
  })
})

describe('hostile files', () => {
  it('are failed checks, not exceptions', async () => {
    const files = await filesOf(round2)
    const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, bytes.length >> 1)
    const cases: readonly [Files, ReplayCheckName][] = [
      [{ ...files, delta: new Uint8Array(0) }, 'signature'],
      [{ ...files, delta: cut(files.delta) }, 'signature'],
      [{ ...files, trace: new Uint8Array(0) }, 'trace_form'],
      [{ ...files, trace: cut(files.trace) }, 'trace_hash'],
      [{ ...files, base: cut(files.base) }, 'base_state'],
      [{ ...files, base: new Uint8Array(100) }, 'base_state'],
    ]
    for (const [bad, name] of cases) {
      const verdict = await replay(bad)
      assert.equal(verdict.ok, false)
      assert.ok(failed(verdict).includes(name), `${name} in ${failed(verdict).join()}`)
    }
  })

  it('with a token outside the vocabulary are a malformed trace', async () => {
    const traces = withCompletion(
      round2.traces,
      (completion) => ({ ...completion, tokens: completion.tokens.map(() => 1_000_000) }),
      (s, g, c) => s + g + c === 0,
    )
    await caught({ ...round2, traces }, {}, ['trace_form'], /vocabulary/)
  })

  it('for another model than this validator has are told apart', async () => {
    const sha256 = hex(new Uint8Array(32).fill(7))
    const header = { model: { id: 'other', sha256 } }
    await caught(
      round2,
      { header, metadata: { base_model: { id: 'other', sha256 } } },
      ['model'],
      /is for model 0707/,
    )
  })
})
