/** Sampling on the demo model, watched: which prompts are prefilled, which rows each step decodes, what filters do. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, beforeEach, describe, it } from 'node:test'
import { resolveConfig } from '../src/config.ts'
import type { DecodingDemand } from '../src/decoding-memory.ts'
import { loadPolicy, type Policy } from '../src/policy.ts'
import { rollout, rolloutOptionsOf, type Completion, type RolloutPrompt } from '../src/rollout/rollout.ts'
import { loadTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { ARITH } from './arith.ts'

const SIGNAL = new AbortController().signal
const CONFIG = { model: ARITH.model, dataset: ARITH.train, group_size: 4, max_completion_length: 6, seed: 5 }

describe('rollout', () => {
  let policy: Policy
  let tokenizer: Tokenizer
  let prompts: RolloutPrompt[]
  /** Prompts of each prefill, and rows of each decoding step. */
  let seen: { prefills: number[]; rows: number[]; demands: DecodingDemand[] }

  before(async () => {
    policy = await loadPolicy({
      modelDir: ARITH.model,
      lora: { rank: 2, alpha: 4, targets: ['q_proj'], useRslora: false },
      engine: 'onnx-cpu',
      threads: 1,
    })
    tokenizer = await loadTokenizer(ARITH.model)
    const rows = readFileSync(ARITH.test, 'utf8').split('\n').slice(0, 3)
    prompts = rows.map((row, position) => {
      const { prompt } = JSON.parse(row) as { prompt: string }
      return { position, ids: tokenizer.encodePrompt(prompt) }
    })
    const startDecoding = policy.startDecoding.bind(policy)
    policy.startDecoding = async (batch) => {
      seen.prefills.push(batch.length)
      const decoding = await startDecoding(batch)
      const step = decoding.step.bind(decoding)
      decoding.step = (tokens) => {
        seen.rows.push(tokens.length)
        return step(tokens)
      }
      return decoding
    }
    const promptsAtOnce = policy.promptsAtOnce.bind(policy)
    policy.promptsAtOnce = (demand) => {
      seen.demands.push(demand)
      return promptsAtOnce(demand)
    }
  })
  after(() => policy.close())
  beforeEach(() => {
    seen = { prefills: [], rows: [], demands: [] }
  })

  const sample = async (changes: object = {}): Promise<Completion[]> => {
    const config = resolveConfig({ ...CONFIG, ...changes })
    return (await rollout(policy, prompts, rolloutOptionsOf({ config, tokenizer }, SIGNAL))).flat()
  }
  const tokensOf = (completions: readonly Completion[]): number[][] =>
    completions.map(({ tokens }) => [...tokens])

  it('prefills each prompt once for its whole group, all of them together', async () => {
    assert.equal((await sample()).length, 12)
    assert.deepEqual(seen.prefills, [3])
  })

  it('decodes at each step the rows that have not finished, and no other', async () => {
    const lengths = (await sample()).map(({ tokens }) => tokens.length)
    assert.ok(new Set(lengths).size > 1, 'completions of one length would show nothing')
    const unfinished = Array.from({ length: Math.max(...lengths) - 1 }, (_, step) =>
      lengths.reduce((count, length) => count + (length > step + 1 ? 1 : 0), 0),
    )
    assert.deepEqual(seen.rows, unfinished)
  })

  it('asks how many groups fit, and samples the same where they come one by one', async () => {
    const together = await sample()
    assert.deepEqual(seen.demands, [
      {
        promptLength: Math.max(...prompts.map(({ ids }) => ids.length)),
        completionLength: 6,
        group: 4,
        maxRows: 256,
      },
    ])
    const alone = await sample({ max_decoding_rows: 4 })
    assert.deepEqual(seen.prefills, [3, 1, 1, 1])
    assert.deepEqual(tokensOf(alone), tokensOf(together))
  })

  for (const filter of [{ top_k: 1 }, { top_p: 1e-6 }, { min_p: 1 }])
    it(`takes the likeliest token where ${JSON.stringify(filter)} leaves no other`, async () => {
      const config = resolveConfig(CONFIG)
      const options = { ...rolloutOptionsOf({ config, tokenizer }, SIGNAL), sampling: null }
      const greedy = (await rollout(policy, prompts, options)).flat()
      assert.deepEqual(tokensOf(await sample(filter)), tokensOf(greedy))
      assert.notDeepEqual(tokensOf(await sample()), tokensOf(greedy))
    })

  it('a low temperature comes near greedy, and another seed samples otherwise', async () => {
    const cold = tokensOf(await sample({ temperature: 0.01 }))
    assert.deepEqual(cold, tokensOf(await sample({ temperature: 0.01, seed: 6 })))
    assert.notDeepEqual(tokensOf(await sample()), tokensOf(await sample({ seed: 6 })))
  })

  it('no completion is longer than its limit, which it says it met', async () => {
    for (const { tokens, finish } of await sample({ max_completion_length: 2 }))
      assert.equal(finish, tokens.at(-1) === 258 ? 'eos' : 'length')
    assert.ok(seen.rows.length <= 1)
  })
})
