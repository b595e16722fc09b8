/** Built-in rewards, user modules, weights, and failures that name their sample. Expected scores are set by hand. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  exactMatch,
  finalNumber,
  jsonValid,
  lengthPenalty,
  numericMatch,
  regexMatch,
} from '../src/rewards/built-in.ts'
import { createRewards } from '../src/rewards/create.ts'
import { scoreSamples } from '../src/rewards/score.ts'
import type { WeightedReward } from '../src/rewards/score.ts'
import type { RewardFunction, RewardSample } from '../src/rewards/types.ts'

const sample = (completion: string, answer?: string, tokens = 4): RewardSample => ({
  prompt: 'p',
  completion,
  answer,
  columns: {},
  tokens,
  finished: true,
})
const never = new AbortController().signal
const weighted = (
  reward: Partial<RewardFunction> & Pick<RewardFunction, 'score'>,
  weight = 1,
): WeightedReward => ({
  reward: { name: 'r', deterministic: true, ...reward },
  weight,
  timeoutMs: 60_000,
})

describe('built-in rewards', () => {
  it('exact_match trims, and cannot score a row without answer', () => {
    assert.equal(exactMatch(sample(' 46\n', '46')), 1)
    assert.equal(exactMatch(sample('46.', '46')), 0)
    assert.equal(exactMatch(sample('46')), null)
  })
  it('finalNumber reads GSM8K marks, boxes, separators, signs and exponents', () => {
    assert.equal(finalNumber('so 3 + 4\n#### 1,234.5'), 1234.5)
    assert.equal(finalNumber('first 3, then \\boxed{-7} units 9'), -7)
    assert.equal(finalNumber('there are 12 apples and 30 pears.'), 30)
    assert.equal(finalNumber('about 1.5e3'), 1500)
    assert.equal(finalNumber('none'), undefined)
  })
  it('finalNumber takes a box as a whole: fractions, nested braces, and nothing of one that is cut off', () => {
    assert.equal(finalNumber('2/4 = \\boxed{\\frac{1}{2}}'), 0.5)
    assert.equal(finalNumber('\\boxed{-\\dfrac{3}{4}}'), -0.75)
    assert.equal(finalNumber('\\boxed{\\text{about } 12 \\text{ m}}'), 12)
    assert.equal(finalNumber('\\boxed{1{,}234}'), 1234)
    assert.equal(finalNumber('the answer is \\boxed{12'), undefined)
    assert.equal(numericMatch(0)(sample('\\boxed{12', '1')), 0)
  })
  it('numeric compares within its tolerance', () => {
    assert.equal(numericMatch(0.01)(sample('x = 3.1416', '#### 3.14')), 1)
    assert.equal(numericMatch(1e-6)(sample('x = 3.1416', '3.14')), 0)
    assert.equal(numericMatch(1)(sample('5', 'no number')), null)
  })
  it('regex finds, and with match_answer compares its first group', () => {
    assert.equal(regexMatch('<b>.*</b>', '', false)(sample('a<b>x</b>')), 1)
    assert.equal(regexMatch('<b>(.*)</b>', '', true)(sample('a<b>46</b>', '46')), 1)
    assert.equal(regexMatch('<b>(.*)</b>', '', true)(sample('46', '46')), 0)
    assert.throws(() => regexMatch('(', '', false), { code: 'BAD_CONFIG' })
  })
  it('regex keeps no state between samples', () => {
    const scorer = regexMatch('a', 'g', false)
    assert.deepEqual([scorer(sample('a')), scorer(sample('a'))], [1, 1])
  })
  it('json wants valid JSON, and by the schema where there is one', () => {
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }
    assert.equal(jsonValid(undefined)(sample('{"a":1}')), 1)
    assert.equal(jsonValid(undefined)(sample('{a:1}')), 0)
    assert.equal(jsonValid(schema)(sample('{"n":1}')), 1)
    assert.equal(jsonValid(schema)(sample('{"n":1.5}')), 0)
    assert.throws(() => jsonValid({ type: 'nonsense' }), { code: 'BAD_CONFIG' })
  })
  it('length follows equation 13 of DAPO', () => {
    const scorer = lengthPenalty(100, 20)
    assert.deepEqual(
      [80, 90, 100, 101].map((tokens) => scorer(sample('', '', tokens))),
      [0, -0.5, -1, -1],
    )
  })
})

describe('scoreSamples', () => {
  it('adds weighted scores and keeps the components', async () => {
    const rewards = [
      weighted({ score: async () => [1, 0] }, 2),
      weighted({ score: async () => [0.5, 0.5] }, -1),
    ]
    const {
      rewards: sums,
      components,
      failures,
    } = await scoreSamples([sample('a'), sample('b')], rewards, never)
    assert.deepEqual([...sums], [1.5, -0.5])
    assert.deepEqual(components, [
      [1, 0.5],
      [0, 0.5],
    ])
    assert.deepEqual(failures, [])
  })
  it('leaves out a null and gives up a sample of only nulls, without calling it a failure', async () => {
    const rewards = [
      weighted({ score: async () => [null, null] }),
      weighted({ score: async () => [3, null] }),
    ]
    const scored = await scoreSamples([sample('a'), sample('b')], rewards, never)
    assert.deepEqual([...scored.rewards], [3, NaN])
    assert.deepEqual(scored.failures, [])
  })
  it('names the sample of a NaN, an infinity, a text and an Error, and scores the others', async () => {
    const bad = [1, NaN, Infinity, '2' as unknown as number, new Error('boom')]
    const scored = await scoreSamples(
      bad.map(() => sample('a')),
      [weighted({ name: 'mine', score: async () => bad })],
      never,
    )
    assert.deepEqual([...scored.rewards], [1, NaN, NaN, NaN, NaN])
    assert.deepEqual(
      scored.failures.map((failure) => [failure.sample, failure.reward]),
      [
        [1, 'mine'],
        [2, 'mine'],
        [3, 'mine'],
        [4, 'mine'],
      ],
    )
    assert.match(scored.failures[3]?.message ?? '', /boom/)
  })
  it('marks every sample when the whole call rejects or throws', async () => {
    const scored = await scoreSamples(
      [sample('a'), sample('b')],
      [weighted({ score: () => Promise.reject(new Error('down')) })],
      never,
    )
    assert.deepEqual([...scored.rewards], [NaN, NaN])
    assert.equal(scored.failures.length, 2)
  })
  it('gives up a call that never answers at its deadline', async () => {
    const hung: WeightedReward = { ...weighted({ score: () => new Promise(() => undefined) }), timeoutMs: 5 }
    const scored = await scoreSamples([sample('a')], [hung], never)
    assert.match(scored.failures[0]?.message ?? '', /no answer within 5 ms/)
  })
  it('rejects when cancelled', async () => {
    const cancel = new AbortController()
    const scoring = scoreSamples(
      [sample('a')],
      [weighted({ score: () => new Promise(() => undefined) })],
      cancel.signal,
    )
    cancel.abort(new Error('stop'))
    await assert.rejects(scoring, /stop/)
  })
})

describe('reward modules', () => {
  let dir = ''
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(dir, name)
    await writeFile(path, text)
    return path
  }
  const score = async (module: string, samples: RewardSample[]) =>
    scoreSamples(samples, await createRewards([{ module, weight: 1, timeout_ms: 60_000 }]), never)
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-rewards-'))
  })
  after(() => rm(dir, { recursive: true }))

  it('takes a TypeScript function of one sample, sync or async', async () => {
    const sync = await write(
      'sync.ts',
      'export default (sample: { completion: string }): number => sample.completion.length',
    )
    const later = await write(
      'async.mts',
      'export default async (sample: { completion: string }) => sample.completion.length * 2',
    )
    assert.deepEqual([...(await score(sync, [sample('abc')])).rewards], [3])
    assert.deepEqual([...(await score(later, [sample('abc')])).rewards], [6])
  })
  it('takes a batch function and a list of several', async () => {
    const batch = await write(
      'batch.ts',
      'export default { batch: (samples: unknown[]) => samples.map((_, i) => i) }',
    )
    const many = await write(
      'many.mjs',
      'export default [() => 1, { name: "two", batch: (s) => s.map(() => 2) }]',
    )
    assert.deepEqual([...(await score(batch, [sample('a'), sample('b')])).rewards], [0, 1])
    const scored = await score(many, [sample('a')])
    assert.deepEqual(scored.components, [[1, 2]])
  })
  it('names only the sample that throws', async () => {
    const path = await write(
      'throws.ts',
      'export default (s: { completion: string }) => { if (s.completion === "b") throw new Error("no b"); return 1 }',
    )
    const scored = await score(path, [sample('a'), sample('b')])
    assert.deepEqual([...scored.rewards], [1, NaN])
    assert.deepEqual(
      scored.failures.map(({ sample: place, message }) => [place, message]),
      [[1, 'no b']],
    )
  })
  it('gives up only the sample that is late, and keeps the scores of the others', async () => {
    const path = await write(
      'late.ts',
      'export default (s: { completion: string }) => s.completion === "b" ? new Promise(() => undefined) : 1',
    )
    const rewards = await createRewards([{ module: path, weight: 1, timeout_ms: 20 }])
    const scored = await scoreSamples([sample('a'), sample('b'), sample('c')], rewards, never)
    assert.deepEqual([...scored.rewards], [1, NaN, 1])
    assert.deepEqual(scored.failures, [{ sample: 1, reward: 'late.ts', message: 'no answer within 20 ms' }])
  })
  it('refuses a missing file, a broken one and a wrong export before training starts', async () => {
    await assert.rejects(score(join(dir, 'none.ts'), []), { code: 'BAD_REWARD', message: /none\.ts/ })
    await assert.rejects(score(await write('broken.mjs', 'export default ('), []), { code: 'BAD_REWARD' })
    await assert.rejects(score(await write('number.mjs', 'export default 3'), []), {
      code: 'BAD_REWARD',
      message: /is number, expected a function/,
    })
  })
})
