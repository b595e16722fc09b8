/** The trainer on the checkpoint of the golden numbers: learning, exact resume, cancelling, replay, evaluation. Numbers come from golden arith. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { GSPOConfig } from '../src/config.ts'
import type { StepTrace } from '../src/trace/types.ts'
import { replayRound } from '../src/replay-round.ts'
import { createTrainer } from '../src/trainer.ts'
import type { StepRecord, Trainer } from '../src/trainer-types.ts'
import { ARITH, GOLDEN_ARITH } from './arith.ts'

const config: GSPOConfig = {
  model: GOLDEN_ARITH,
  dataset: ARITH.train,
  prompts_per_step: 4,
  group_size: 4,
  steps_per_generation: 2,
  max_completion_length: 6,
  learning_rate: 5e-4,
  threads: 1,
  seed: 11,
}

/** What two equal steps must share: everything but what was measured of the machine, time and memory. */
const essence = ({ stats, trace, samples }: StepRecord): unknown => {
  const timeless = { ...stats, seconds: null, tokensPerSecond: null, peakMemoryBytes: null }
  return { timeless, trace, samples }
}
const withTrainer = async <T>(
  changes: Partial<GSPOConfig>,
  use: (trainer: Trainer) => Promise<T>,
): Promise<T> => {
  const trainer = await createTrainer({ ...config, ...changes })
  try {
    return await use(trainer)
  } finally {
    await trainer.close()
  }
}

describe('createTrainer on the demo model', () => {
  let trainer: Trainer
  before(async () => {
    trainer = await createTrainer(config)
  })
  after(() => trainer.close())

  it('tells model, data and adapter', () => {
    const { model, datasetSize, trainable } = trainer.info
    assert.deepEqual(
      [model.architecture, model.parameters, model.vocabSize, datasetSize],
      ['Qwen3ForCausalLM', 820_992, 259, 9000],
    )
    // Rank 16 times (in + out) of 4 layers x (q 128+128, k and v 128+64, o 128+128, gate and up 128+384, down 384+128).
    assert.equal(trainable, 16 * 4 * (256 + 192 + 192 + 256 + 512 + 512 + 512))
  })
  it('evaluates the base model as Hugging Face does: 62.7 % greedy on all 1000 rows', async () => {
    const { accuracy, rewardMean, samples } = await trainer.evaluate({ dataset: ARITH.test, mode: 'greedy' })
    assert.deepEqual([accuracy, rewardMean, samples], [0.627, 0.627, 1000])
  })
  it('evaluates by sampling near the exact 35.1 %, equally for equal seeds', async () => {
    const first = await trainer.evaluate({ dataset: ARITH.test, mode: 'sample', seed: 1 })
    // Four standard deviations of 1000 draws at 0.351.
    assert.ok(Math.abs(first.accuracy - 0.3513) < 0.0604, String(first.accuracy))
    assert.deepEqual(await trainer.evaluate({ dataset: ARITH.test, mode: 'sample', seed: 1 }), first)
  })
  it('refuses options of an evaluation that mean nothing', async () => {
    const wrong = [
      { mode: 'gready' as 'greedy' },
      { mode: 'greedy', limit: -1 },
      { mode: 'greedy', limit: 0 },
      { mode: 'greedy', limit: 2.5 },
      { mode: 'sample', seed: -1 },
    ] as const
    for (const options of wrong)
      await assert.rejects(trainer.evaluate({ dataset: ARITH.test, ...options }), {
        code: 'BAD_OPTION',
        message: /^evaluate: (mode|limit|seed) is .*, expected/,
      })
  })
  it('gives back statistics that fit the trace', async () => {
    const { stats, trace, samples } = await trainer.step()
    const completions = trace.groups.flatMap((group) => group.completions)
    assert.deepEqual([stats.step, stats.groups, stats.completions], [1, 4, 16])
    assert.equal(
      stats.generatedTokens,
      completions.reduce((sum, { tokens }) => sum + tokens.length, 0),
    )
    assert.equal(stats.rewardMean, completions.reduce((sum, { reward }) => sum + reward, 0) / 16)
    assert.deepEqual(
      trace.groups.map(({ dataPosition }) => dataPosition),
      [0, 1, 2, 3],
    )
    assert.ok(stats.gradNorm > 0 && stats.entropy > 0)
    assert.ok(samples.length >= 1 && samples.length <= 3)
    for (const { tokens, finish } of completions)
      assert.equal(finish, tokens.at(-1) === 258 ? 'eos' : 'length')
  })
})

describe('a step', () => {
  it('repeats exactly for the same seed and differs for another', () =>
    withTrainer({}, (one) =>
      withTrainer({}, (two) =>
        withTrainer({ seed: 12 }, async (other) => {
          const first = await one.step()
          assert.deepEqual(essence(await two.step()), essence(first))
          assert.deepEqual(await one.readAdapter(), await two.readAdapter())
          assert.notDeepEqual((await other.step()).trace.groups, first.trace.groups)
        }),
      ),
    ))
  it('samples the same tokens whether rows are decoded together or in small batches', () =>
    withTrainer({}, (one) =>
      withTrainer({ max_decoding_rows: 4 }, async (two) => {
        const tokens = ({ trace }: StepRecord): number[][] =>
          trace.groups.flatMap((group) => group.completions.map((completion) => [...completion.tokens]))
        assert.deepEqual(tokens(await two.step()), tokens(await one.step()))
      }),
    ))
  it('goes on bit for bit from an exported state', () =>
    withTrainer({ lr_scheduler_type: 'linear', max_steps: 100, warmup_steps: 3 }, (one) =>
      withTrainer({ lr_scheduler_type: 'linear', max_steps: 100, warmup_steps: 3 }, async (two) => {
        await one.step()
        const state = await one.exportState()
        assert.deepEqual(await one.exportState(), state)
        await two.importState(state)
        for (let step = 0; step < 2; step++)
          assert.deepEqual(essence(await two.step()), essence(await one.step()))
        assert.deepEqual(await two.exportState(), await one.exportState())
      }),
    ))
  it('leaves everything as it was when cancelled, and then does what it would have done', () =>
    withTrainer({}, (one) =>
      withTrainer({}, async (two) => {
        const cancel = new AbortController()
        const state = await one.exportState()
        const cancelled = one.step({ signal: cancel.signal })
        cancel.abort()
        await assert.rejects(cancelled, { code: 'CANCELLED' })
        assert.deepEqual(await one.exportState(), state)
        assert.deepEqual(essence(await one.step()), essence(await two.step()))
      }),
    ))
  it('stops at a non-finite number before anything is written', () =>
    withTrainer({ learning_rate: 1e38 }, async (trainer) => {
      const before = await trainer.exportState()
      await assert.rejects(trainer.step(), { code: 'NON_FINITE', message: /lora_|logits|the loss is/ })
      assert.deepEqual(await trainer.exportState(), before)
    }))
  it('counts groups without signal and moves nothing when there are no others', () =>
    withTrainer({ rewards: [{ name: 'length', max_tokens: 100, soft_tokens: 1 }] }, async (trainer) => {
      const before = await trainer.readAdapter()
      const { stats } = await trainer.step()
      assert.deepEqual([stats.zeroVarianceFraction, stats.gradNorm, stats.loss], [1, 0, 0])
      assert.deepEqual(await trainer.readAdapter(), before)
    }))
  it('ends a completion at a stop text and hides it from the reward', () =>
    withTrainer({ stop: ['1'] }, async (trainer) => {
      const { trace, samples } = await trainer.step()
      const stopped = trace.groups
        .flatMap((group) => group.completions)
        .filter(({ finish }) => finish === 'stop')
      assert.ok(stopped.length > 0)
      // Byte 49 is "1".
      for (const { tokens } of stopped)
        assert.deepEqual([tokens.indexOf(49), tokens.at(-1)], [tokens.length - 1, 49])
      assert.ok(samples.every(({ completion }) => !completion.includes('1')))
    }))
  it('refuses a wrong adapter and calls after close', async () => {
    const trainer = await createTrainer(config)
    await assert.rejects(trainer.writeAdapter(new Float32Array(3)), { code: 'BAD_ADAPTER' })
    await assert.rejects(trainer.writeAdapter(new Float32Array(trainer.info.trainable).fill(NaN)), {
      code: 'BAD_ADAPTER',
    })
    await trainer.close()
    await trainer.close()
    await assert.rejects(trainer.step(), { code: 'CLOSED' })
  })
})

describe('rewards that fail', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-trainer-'))
  })
  after(() => rm(dir, { recursive: true }))

  it('name their sample, count as unscorable and do not stop the step', async () => {
    const module = join(dir, 'reward.ts')
    await writeFile(
      module,
      'export default (s: { completion: string; answer: string }) => { if (s.completion.startsWith("1")) throw new Error("no ones"); return s.completion === s.answer ? 1 : 0 }',
    )
    await withTrainer({ rewards: [{ module }] }, async (trainer) => {
      const { stats, trace, rewardFailures } = await trainer.step()
      const failed = trace.groups.flatMap(({ dataPosition, completions }) =>
        completions.flatMap(({ reward }, completion) =>
          Number.isNaN(reward) ? [{ dataPosition, completion }] : [],
        ),
      )
      assert.ok(failed.length > 0 && failed.length < 16)
      assert.equal(stats.unscorable, failed.length)
      assert.deepEqual(
        rewardFailures.map(({ dataPosition, completion }) => ({ dataPosition, completion })),
        failed.slice(0, 16),
      )
      assert.match(rewardFailures[0]?.message ?? '', /no ones/)
      assert.ok(Number.isFinite(stats.rewardMean) && Number.isFinite(stats.loss))
    })
  })
})

describe('replay', () => {
  it('ends in the same bits without sampling, and agrees on positions, prompts, rewards and logprobs', () =>
    withTrainer({ beta: 0.04, num_iterations: 2, mask_truncated_completions: true }, (worker) =>
      withTrainer({ beta: 0.04, num_iterations: 2, mask_truncated_completions: true }, async (validator) => {
        await worker.step()
        await validator.importState(await worker.exportState())
        const records = [await worker.step(), await worker.step()]
        const replayed = await validator.replay(
          records.map(({ trace }) => trace),
          { resample: [[1, 3], []], recompute: [[0, 1, 2, 3], [2]] },
        )
        assert.deepEqual(await validator.exportState(), await worker.exportState())
        let freely = 0
        for (const [index, { trace, stats }] of records.entries()) {
          const again = replayed[index]
          assert.ok(again !== undefined)
          assert.deepEqual(
            [again.expectedSeed, again.stats.loss, again.stats.kl],
            [trace.seed, stats.loss, stats.kl],
          )
          for (const [place, group] of trace.groups.entries()) {
            const expected = again.groups[place]
            assert.ok(expected !== undefined)
            assert.deepEqual(
              [expected.expectedDataPosition, expected.expectedPromptIds],
              [group.dataPosition, group.promptIds],
            )
            const asked = index === 0 && (place === 1 || place === 3)
            const same = group.completions.map(() => ({ isSame: true, difference: '' }))
            assert.deepEqual(expected.redrawn, asked ? same : null)
            const spotChecked = index === 0 || place === 2
            assert.equal(expected.isRecomputed, spotChecked)
            for (const [row, completion] of group.completions.entries()) {
              const { logps, entropies, reward, rewardIsDeterministic } = expected.completions[row] ?? {}
              assert.deepEqual([reward, rewardIsDeterministic], [completion.reward, true])
              const isKnown = spotChecked || entropies?.length !== 0
              if (isKnown && !spotChecked) freely += 1
              assert.equal(entropies?.length, isKnown ? completion.tokens.length : 0)
              assert.equal(logps?.length, entropies?.length)
              for (const [token, logp] of (logps ?? []).entries())
                assert.ok(Math.abs((completion.logps[token] ?? NaN) - logp) < 1e-4)
            }
          }
        }
        // The second step's first minibatch is half of 16; the third group was asked for, and some rows are masked.
        assert.ok(freely >= 2 && freely <= 8, `${freely} came with the loss`)
      }),
    ))
  it('refuses an impossible trace and changes nothing', () =>
    withTrainer({}, async (trainer) => {
      const { trace } = await trainer.step()
      const state = await trainer.exportState()
      const short: StepTrace = { ...trace, groups: trace.groups.slice(1) }
      await assert.rejects(trainer.replay([trace, short]), {
        code: 'BAD_TRACE',
        message: /groups: 3, expected 4/,
      })
      assert.deepEqual(await trainer.exportState(), state)
    }))
})

describe('use_4bit', () => {
  it("trains on 4-bit weights and traces the logprobs of the loss's own forward pass", () =>
    withTrainer({ use_4bit: true }, (worker) =>
      withTrainer({ use_4bit: true }, async (validator) => {
        const { stats, trace } = await worker.step()
        assert.ok(Number.isFinite(stats.gradNorm) && stats.gradNorm > 0)
        const [replayed] = await validator.replay([trace])
        const traced = trace.groups.flatMap(({ completions }) => completions.map(({ logps }) => logps))
        const again = replayed?.groups.flatMap(({ completions }) => completions.map(({ logps }) => logps))
        assert.deepEqual(again, traced)
        assert.deepEqual(await validator.exportState(), await worker.exportState())
      }),
    ))
})

describe('replayRound', () => {
  it('gives the adapter and state after a round from the state before it and its traces', async () => {
    const round = await withTrainer({}, async (trainer) => {
      await trainer.step()
      const state = await trainer.exportState()
      const traces = [(await trainer.step()).trace, (await trainer.step()).trace]
      return { state, traces, adapter: await trainer.readAdapter(), after: await trainer.exportState() }
    })
    const replayed = await replayRound({ config, state: round.state, traces: round.traces })
    assert.deepEqual([replayed.adapter, replayed.state], [round.adapter, round.after])
  })
})

describe('the KL term', () => {
  it('is zero where the policy is still the base model, and grows when it moves', () =>
    withTrainer({ beta: 0.1 }, async (trainer) => {
      const first = await trainer.step()
      const second = await trainer.step()
      assert.ok(first.stats.kl >= 0 && first.stats.kl < second.stats.kl)
    }))
})

describe('mask_truncated_completions', () => {
  it('leaves cut completions out: with all of them cut nothing moves', () =>
    withTrainer(
      {
        max_completion_length: 2,
        mask_truncated_completions: true,
        rewards: [{ name: 'regex', pattern: '[02468]$' }],
      },
      async (trainer) => {
        const before = await trainer.readAdapter()
        const { stats } = await trainer.step()
        assert.equal(stats.truncatedFraction, 1)
        assert.ok(stats.zeroVarianceFraction < 1)
        assert.deepEqual(await trainer.readAdapter(), before)
      },
    ))
})

describe('micro-batches', () => {
  for (const loss_type of ['grpo', 'bnpo', 'dapo', 'dr_grpo'] as const)
    it(`add up to the ${loss_type} loss and gradient of the whole minibatch`, () =>
      withTrainer({ loss_type }, (whole) =>
        withTrainer({ loss_type, micro_batch_tokens: 40 }, async (split) => {
          const [one, two] = [await whole.step(), await split.step()]
          assert.deepEqual(two.trace, one.trace)
          // Float32 sums in another order: FORMULAS give 2e-6 for losses and 1e-6 relative for gradients.
          assert.ok(Math.abs(two.stats.loss - one.stats.loss) < 2e-6)
          assert.ok(Math.abs(two.stats.gradNorm / one.stats.gradNorm - 1) < 1e-4)
          assert.ok(Math.abs(two.stats.clipRatioHigh - one.stats.clipRatioHigh) < 1e-12)
        }),
      ))
})

describe('what cannot be loaded', () => {
  const refuses = (
    changes: Partial<GSPOConfig>,
    expected: { code: string; message?: RegExp },
  ): Promise<void> => assert.rejects(createTrainer({ ...config, ...changes }), expected)
  it('names a missing model folder', () =>
    refuses({ model: '/no/such/model' }, { code: 'FILE_MISSING', message: /\/no\/such\/model/ }))
  it('names a missing data set', () =>
    refuses({ dataset: '/no/such.jsonl' }, { code: 'FILE_MISSING', message: /\/no\/such\.jsonl/ }))
  it('names a missing adapter folder', () =>
    refuses({ adapter: '/no/such/adapter' }, { code: 'FILE_MISSING', message: /\/no\/such\/adapter/ }))
  it('refuses a prompt that leaves no room for an answer', () =>
    refuses(
      { max_completion_length: 256 },
      { code: 'BAD_DATASET', message: /^row 1 .*over the model's 256 positions/ },
    ))
  it('refuses a memory limit that the longest prompt with a full completion does not fit, before any sampling', () =>
    // The longest prompt is 99+99=, six tokens; with one of a single token 354 MB would do.
    refuses(
      { max_completion_length: 240, memory_limit_mb: 356 },
      { code: 'OUT_OF_MEMORY_LIMIT', message: /^a sequence of 246 tokens/ },
    ))
  it('refuses lora_targets of which the model has none', () =>
    refuses({ lora_targets: ['in_proj_ba'] }, { code: 'BAD_OPTION', message: /none of the layers/ }))
})
