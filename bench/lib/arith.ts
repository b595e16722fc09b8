/** What the benchmarks on sums share: models, data, TRL's recorded curves, and the exact expected accuracy. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { GSPOConfig, Policy } from '@gym-node/gspo'
import { buildTokenBatch, loadDataset, loadPolicy, loadTokenizer, LORA_TARGETS } from '@gym-node/gspo'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** The demo model, the checkpoint of the same shape that TRL's runs began from, and their data. */
export const ARITH = {
  model: at('packages/node/demo/arith-model'),
  trlModel: at('test/golden/arith/model'),
  train: at('packages/node/demo/arith-model/train.jsonl'),
  test: at('packages/node/demo/arith-model/test.jsonl'),
} as const

/** TRL's GSPO setting of the recorded runs: LoRA r 16, groups of 8, learning rate 5e-4, no KL, 25,600 completions. */
export const TRL_SETTING: GSPOConfig = {
  model: ARITH.trlModel,
  dataset: ARITH.train,
  lora_rank: 16,
  lora_alpha: 32,
  group_size: 8,
  prompts_per_step: 16,
  max_completion_length: 6,
  learning_rate: 5e-4,
  beta: 0,
  threads: 1,
}

/** One recorded TRL run. */
export interface TrlRun {
  readonly wall_s: number
  readonly reward: readonly (number | null)[]
  readonly eval: readonly {
    readonly step: number
    readonly test_sampled: number
    readonly test_greedy: number
  }[]
}

/** TRL's recorded runs by name; see test/golden/README.md. */
export function trlRuns(): Record<string, TrlRun> {
  return JSON.parse(readFileSync(at('test/golden/arith/trl-curves.json'), 'utf8')) as Record<string, TrlRun>
}

/** Computes accuracies of adapters on the held-out set. */
export interface Examiner {
  /** Exact-match rate of sampling at temperature 1, computed from the answers' probabilities: no sampling noise. */
  expectedAccuracy(adapter: Float32Array): Promise<number>
  close(): Promise<void>
}

/** An examiner of a model with a policy of its own; `model` is a folder with the demo model's shape and tokenizer. */
export async function createExaminer(model: string): Promise<Examiner> {
  const policy = await loadPolicy({
    modelDir: model,
    lora: { rank: 16, alpha: 32, targets: LORA_TARGETS, useRslora: false },
    engine: 'auto',
    threads: 1,
  })
  const tokenizer = await loadTokenizer(ARITH.model)
  const { rows } = await loadDataset([ARITH.test])
  const [eos = 0] = policy.model.eosTokenIds
  const sequences = rows.map(({ prompt, answer }) => ({
    promptIds: tokenizer.encodePrompt(prompt),
    tokens: Int32Array.of(...tokenizer.encode(answer ?? ''), eos),
  }))
  return {
    expectedAccuracy: (adapter) => expectedAccuracy(policy, sequences, adapter),
    close: () => policy.close(),
  }
}

async function expectedAccuracy(
  policy: Policy,
  sequences: readonly { promptIds: Int32Array; tokens: Int32Array }[],
  adapter: Float32Array,
): Promise<number> {
  policy.setAdapter(adapter)
  let sum = 0
  for (let start = 0; start < sequences.length; start += 250) {
    const part = sequences.slice(start, start + 250)
    const batch = buildTokenBatch(part, policy.model.padTokenId)
    const { logps } = await policy.logprobs(batch, { temperature: 1, adapter: true })
    for (let row = 0; row < part.length; row++) {
      let logp = 0
      for (let token = 0; token < batch.completionLength; token++)
        logp += logps[row * batch.completionLength + token] ?? 0
      sum += Math.exp(logp)
    }
  }
  return sum / sequences.length
}
