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
import { closeRewards, scoreSamples } from '../src/rewards/score.ts'
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
  it('takes no score that its weight makes larger than float32 can train on, as an endpoint may send', async () => {
    const huge = weighted({ score: () => Promise.resolve([1e308, -1e308, 1e25, 1]) }, 10)
    const scored = await scoreSamples(
      [1, 2, 3, 4].map(() => sample('x')),
      [huge],
      never,
    )
    assert.deepEqual([...scored.rewards], [NaN, NaN, 1e26, 10])
    assert.deepEqual(
      scored.failures.map(({ sample, message }) => [sample, message.slice(0, 15)]),
      [
        [0, 'returned 1e+308'],
        [1, 'returned -1e+30'],
      ],
    )
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

describe('rewards with a limit of time a sample', () => {
  const loadOne = (config: Parameters<typeof createRewards>[0][number]): Promise<WeightedReward[]> =>
    createRewards([config])
  // Exponential in the letters before the b: 2^60 ways to cut them.
  const endless = `${'a'.repeat(60)}b`

  it('a pattern that backtracks without end costs its completion the score, not the run', async () => {
    const rewards = await loadOne({
      name: 'regex',
      pattern: '(a+)+$',
      flags: 'u',
      match_answer: false,
      weight: 1,
      timeout_ms: 60_000,
      sample_timeout_ms: 20,
    })
    const scored = await scoreSamples(
      [sample('aa'), sample(endless), sample('b'), sample('ba')],
      rewards,
      never,
    )
    assert.deepEqual([...scored.rewards], [1, NaN, 0, 1])
    assert.deepEqual(
      scored.failures.map(({ sample: place, reward }) => [place, reward]),
      [[1, 'regex']],
    )
    assert.match(scored.failures[0]?.message ?? '', /the pattern \(a\+\)\+\$ took more than 20 ms/)
    assert.ok(!(scored.failures[0]?.message ?? '').includes('aaa'), 'the completion stays out of the message')
  })
  it('so does a pattern inside a JSON schema', async () => {
    const rewards = await loadOne({
      name: 'json',
      schema: { type: 'string', pattern: '^(a+)+$' },
      weight: 1,
      timeout_ms: 60_000,
      sample_timeout_ms: 20,
    })
    const scored = await scoreSamples([sample('"aa"'), sample(`"${endless}"`), sample('"b"')], rewards, never)
    assert.deepEqual([...scored.rewards], [1, NaN, 0])
    assert.match(scored.failures[0]?.message ?? '', /the schema took more than 20 ms/)
  })
  it('a cancel is heard between completions that take all their time', async () => {
    const [weightedReward] = await loadOne({
      name: 'regex',
      pattern: '(a+)+$',
      flags: 'u',
      match_answer: false,
      weight: 1,
      timeout_ms: 60_000,
      sample_timeout_ms: 5,
    })
    assert.ok(weightedReward)
    const cancel = new AbortController()
    let seen = 0
    const watched: WeightedReward = {
      ...weightedReward,
      reward: {
        ...weightedReward.reward,
        score: async (samples, call) => {
          setImmediate(() => cancel.abort(new Error('stop')))
          const scores = await weightedReward.reward.score(samples, call)
          seen = scores.filter(
            (score) => score instanceof Error && score.message.includes('took more'),
          ).length
          return scores
        },
      },
    }
    await assert.rejects(
      scoreSamples(
        Array.from({ length: 50 }, () => sample(endless)),
        [watched],
        cancel.signal,
      ),
      /stop/,
    )
    await new Promise(setImmediate)
    assert.ok(seen < 50, `${seen} of 50 were matched after the cancel`)
  })
})

describe('reward modules', () => {
  let dir = ''
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(dir, name)
    await writeFile(path, text)
    return path
  }
  const opened: WeightedReward[] = []
  const load = async (module: string, timeoutMs = 60_000): Promise<WeightedReward[]> => {
    const rewards = await createRewards([{ module, weight: 1, timeout_ms: timeoutMs }])
    opened.push(...rewards)
    return rewards
  }
  const score = async (module: string, samples: RewardSample[]) =>
    scoreSamples(samples, await load(module), never)
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-rewards-'))
  })
  after(async () => {
    await closeRewards(opened)
    await rm(dir, { recursive: true })
  })

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
    const late = (await load(path)).map((reward) => ({ ...reward, timeoutMs: 20 }))
    const scored = await scoreSamples([sample('a'), sample('b'), sample('c')], late, never)
    assert.deepEqual([...scored.rewards], [1, NaN, 1])
    assert.deepEqual(scored.failures, [{ sample: 1, reward: 'late.ts', message: 'no answer within 20 ms' }])
  })
  it('ends the thread of a function that never returns, names the sample, keeps what it had, and goes on', async () => {
    const path = await write(
      'endless.ts',
      'let calls = 0\nexport default (s: { completion: string }) => { calls++; if (s.completion === "b") for (;;); return calls }',
    )
    const rewards = (await load(path)).map((reward) => ({ ...reward, timeoutMs: 20 }))
    const scored = await scoreSamples([sample('a'), sample('b'), sample('c')], rewards, never)
    assert.deepEqual([...scored.rewards], [1, NaN, NaN])
    const [blamed, after] = scored.failures
    assert.equal(blamed?.sample, 1)
    assert.match(blamed.message, /^no answer within 20 ms: it never gave its thread back/)
    assert.match(after?.message ?? '', /never returned from sample 1 of the same call/)
    const patient = rewards.map((reward) => ({ ...reward, timeoutMs: 60_000 }))
    const again = await scoreSamples([sample('a'), sample('c')], patient, never)
    assert.deepEqual([...again.rewards], [1, 2], 'a fresh module counts from the beginning')
  })
  it('a batch function that never returns fails its call, and its list is usable afterwards', async () => {
    const path = await write(
      'endless-batch.mjs',
      'export default [{ name: "stuck", batch: (s) => { if (s[0].completion === "b") for (;;); return s.map(() => 1) } }, { name: "fine", batch: async (s) => s.map(() => 2) }]',
    )
    const rewards = (await load(path)).map((reward) => ({ ...reward, timeoutMs: 20 }))
    const scored = await scoreSamples([sample('b')], rewards, never)
    assert.match(scored.failures[0]?.message ?? '', /never gave its thread back/)
    const patient = rewards.map((reward) => ({ ...reward, timeoutMs: 60_000 }))
    assert.deepEqual((await scoreSamples([sample('a')], patient, never)).components, [[1, 2]])
  })
  it('a module that ends its thread, or throws outside a call, fails the call and not the process', async () => {
    const exits = await write('exits.mjs', 'export default () => process.exit(3)')
    const strays = await write(
      'strays.mjs',
      'export default () => new Promise(() => setImmediate(() => { throw new Error("stray") }))',
    )
    assert.match((await score(exits, [sample('a')])).failures[0]?.message ?? '', /ended with code 3/)
    assert.match(
      (await score(strays, [sample('a')])).failures[0]?.message ?? '',
      /^stray; the module is loaded afresh/,
    )
  })
  it('a cancel does not wait for a function that never returns', async () => {
    const path = await write('stuck.mjs', 'export default () => { for (;;); }')
    const cancel = new AbortController()
    const scoring = scoreSamples([sample('a')], await load(path), cancel.signal)
    cancel.abort(new Error('stop'))
    await assert.rejects(scoring, /stop/)
  })
  it('refuses a module that does not end loading', async () => {
    const path = await write('loads-for-ever.mjs', 'for (;;);\nexport default () => 1')
    await assert.rejects(load(path, 200), { code: 'BAD_REWARD', message: /did not load within 200 ms/ })
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
