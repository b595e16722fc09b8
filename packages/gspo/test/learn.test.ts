/** The updates of one step, watched: which rows each sees, what ratios compare with, how the rate moves. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { TrainerState } from '../src/checkpoint/state.ts'
import { resolveConfig, type GSPOConfig } from '../src/config.ts'
import { learn, type Learned } from '../src/learn.ts'
import { adamwInit } from '../src/optim/adamw.ts'
import { loadPolicy, type LossBatch, type LossConfig, type Policy } from '../src/policy.ts'
import type { StepTrace } from '../src/trace/types.ts'
import { ARITH } from './arith.ts'

const SIGNAL = new AbortController().signal
const CONFIG: GSPOConfig = {
  model: ARITH.model,
  dataset: ARITH.train,
  prompts_per_step: 2,
  group_size: 4,
  max_completion_length: 4,
  learning_rate: 1e-3,
}

/** Two groups of four; the third completion of each is the cut one. */
const TRACE: StepTrace = {
  step: 1,
  seed: 0,
  groups: [0, 1].map((group) => ({
    dataPosition: group,
    promptIds: Int32Array.of(49 + group, 43, 50, 61),
    completions: [0, 1, 2, 3].map((place) => ({
      tokens: place === 2 ? Int32Array.of(51, 52, 53, 54) : Int32Array.of(51 + place, 258),
      logps: new Float32Array(place === 2 ? 4 : 2).fill(-1 - group - place / 8),
      finish: place === 2 ? ('length' as const) : ('eos' as const),
      reward: place === 0 ? 1 : 0,
      components: [place === 0 ? 1 : 0],
    })),
  })),
}

describe('the updates of a step', () => {
  let policy: Policy
  let state: TrainerState
  let seen: { batch: LossBatch; loss: LossConfig }[]
  let adapters: number

  before(async () => {
    policy = await loadPolicy({
      modelDir: ARITH.model,
      lora: { rank: 2, alpha: 4, targets: ['q_proj', 'v_proj'], useRslora: false },
      engine: 'onnx-cpu',
      threads: 1,
    })
    const { length, tensors } = policy.adapterLayout
    const adapter = policy.initialAdapter(0)
    state = { adapter, optimizer: adamwInit(length, tensors.length), step: 0, updates: 0, dataPosition: 0 }
    const lossAndGradient = policy.lossAndGradient.bind(policy)
    policy.lossAndGradient = (batch, loss) => {
      seen.push({ batch, loss })
      return lossAndGradient(batch, loss)
    }
    const setAdapter = policy.setAdapter.bind(policy)
    policy.setAdapter = (values) => {
      adapters++
      setAdapter(values)
    }
  })
  after(() => policy.close())
  beforeEach(() => {
    seen = []
    adapters = 0
  })

  const run = (changes: Partial<GSPOConfig>): Promise<Learned> =>
    learn(policy, state, TRACE, resolveConfig({ ...CONFIG, ...changes }), SIGNAL)
  /** Each row by its prompt's and its completion's first token. */
  const rowsOf = ({ batch }: { batch: LossBatch }): string[] =>
    Array.from({ length: batch.rows }, (_, row) => {
      const { promptIds, completionIds, promptLength, completionLength } = batch
      return `${promptIds[row * promptLength]} ${completionIds[row * completionLength]} ${completionIds[row * completionLength + 1]}`
    })

  it('steps_per_generation splits the rows in equal minibatches, num_iterations goes through them again', async () => {
    const { state: next } = await run({ steps_per_generation: 2, num_iterations: 3 })
    assert.equal(next.updates, 6)
    assert.deepEqual([next.step, next.dataPosition], [1, 2])
    assert.deepEqual([...new Set(next.optimizer.steps)], [6])
    // The adapter before the step, and after each update.
    assert.equal(adapters, 7)
    const all = new Set([0, 1].flatMap((group) => [0, 1, 2, 3].map((place) => `${49 + group} ${51 + place}`)))
    assert.equal(all.size, 8)
    const rows = seen.map(rowsOf)
    assert.deepEqual(
      rows.map(({ length }) => length),
      [4, 4, 4, 4, 4, 4],
    )
    const pass = (first: number): string[] => [...(rows[first] ?? []), ...(rows[first + 1] ?? [])].sort()
    assert.equal(new Set(pass(0)).size, 8)
    assert.deepEqual([pass(2), pass(4)], [pass(0), pass(0)])
    assert.deepEqual(rows[2], rows[0])
  })

  it('compares with the log-probabilities that were sampled, in every update; a single update with itself', async () => {
    await run({ steps_per_generation: 2, num_iterations: 2 })
    for (const { batch } of seen)
      for (let row = 0; row < batch.rows; row++) {
        const at = row * batch.completionLength
        const group = (batch.promptIds[row * batch.promptLength] ?? 0) - 49
        const isCut = batch.completionIds[at + 1] === 52
        const place = isCut ? 2 : (batch.completionIds[at] ?? 0) - 51
        assert.equal(batch.oldLogps?.[at], -1 - group - place / 8)
      }
    seen = []
    await run({})
    assert.deepEqual(
      seen.map(({ batch }) => batch.oldLogps),
      [null],
    )
  })

  it('leaves masked completions out of rows and of the tokens that losses divide by', async () => {
    await run({ mask_truncated_completions: true, loss_type: 'dapo' })
    assert.deepEqual(
      seen.map(({ batch, loss }) => [batch.rows, loss.num_items]),
      // Two tokens of each of six.
      [[6, 12]],
    )
    seen = []
    await run({ loss_type: 'dapo' })
    assert.deepEqual(
      seen.map(({ batch, loss }) => [batch.rows, loss.num_items]),
      [[8, 20]],
    )
  })

  it('divides by the same share of the rollout tokens in every minibatch, so that tokens count the same', async () => {
    // TRL 1.13: num_items_in_batch spans the rollout, and its loss divides by that / steps_per_generation: 20 / 4.
    await run({ steps_per_generation: 4, loss_type: 'dapo' })
    assert.deepEqual(
      seen.map(({ batch, loss }) => [batch.rows, loss.num_items]),
      [0, 1, 2, 3].map(() => [2, 5]),
    )
  })

  it('warms up over its first updates and follows the schedule after them', async () => {
    const decay = { lr_scheduler_type: 'linear', warmup_steps: 4, max_steps: 8, num_iterations: 2 } as const
    // The second update of a step is what its statistics show: 1/4 of the peak, then the sixth 3/4 on the way down.
    const first = await run(decay)
    assert.equal(first.stats.learningRate, 1e-3 * (1 / 4))
    state = { ...state, updates: 4 }
    const later = await run(decay)
    assert.equal(later.stats.learningRate, 1e-3 * (3 / 4))
    state = { ...state, updates: 0 }
  })

  it('clips the gradient at max_grad_norm and shows its norm before', async () => {
    const free = await run({ max_grad_norm: 0 })
    const clipped = await run({ max_grad_norm: free.stats.gradNorm / 1e6 })
    assert.equal(clipped.stats.gradNorm, free.stats.gradNorm)
    // AdamW's first step hardly knows the gradient's size; its first moment does.
    const size = ({ state: { optimizer } }: Learned): number => Math.hypot(...optimizer.firstMoment)
    assert.ok(Math.abs((size(free) / size(clipped)) * 1e-6 - 1) < 0.2)
  })
})
