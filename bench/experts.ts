/**
 * What opening a mixture of experts costs by layers and experts: seconds and memory of the first decoding and the first
 * training pass, and of the ones after. The model has real numbers of layers and experts, and tiny matrices.
 * Usage: node --conditions=gym-source bench/experts.ts [LAYERSxEXPERTS ...] [--threads 1] [--adapt-experts] [--use-4bit]
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { encodeSafetensors, loadPolicy, LORA_TARGETS } from '@gym-node/gspo'
import type { Policy, TensorValue } from '@gym-node/gspo'
import { median } from './lib/format.ts'

type LossBatch = Parameters<Policy['lossAndGradient']>[0]
type LossConfig = Parameters<Policy['lossAndGradient']>[1]

/** Rows of 4-bit codes are whole blocks of 32. */
const HIDDEN = 32
const HEAD = 8
const VOCABULARY = 64
const ROWS = 8
const PROMPT = 16
const COMPLETION = 64

const COLUMNS = [
  { width: 13, digits: 1 },
  { width: 8, digits: 3 },
  { width: 7, digits: 0 },
  { width: 15, digits: 1 },
  { width: 8, digits: 3 },
  { width: 13, digits: 0 },
] as const

/** Eight completions of one prompt. */
const BATCH: LossBatch = {
  rows: ROWS,
  promptLength: PROMPT,
  completionLength: COMPLETION,
  promptIds: Int32Array.from({ length: ROWS * PROMPT }, (_, i) => 3 + (i % PROMPT)),
  promptMask: new Int32Array(ROWS * PROMPT).fill(1),
  completionIds: Int32Array.from({ length: ROWS * COMPLETION }, (_, i) => 3 + ((i * 7) % 60)),
  completionMask: new Int32Array(ROWS * COMPLETION).fill(1),
  advantages: Float32Array.from({ length: ROWS }, (_, row) => (row % 2 === 0 ? 1 : -1)),
  oldLogps: null,
  refLogps: null,
}

const LOSS: LossConfig = {
  importance_sampling_level: 'sequence',
  loss_type: 'grpo',
  epsilon: 3e-4,
  epsilon_high: 4e-4,
  beta: 0,
  use_bias_correction_kl: false,
  temperature: 1,
  max_completion_length: COMPLETION,
  router_aux_loss_coef: 0,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '1' },
    'adapt-experts': { type: 'boolean', default: false },
    'use-4bit': { type: 'boolean', default: false },
    one: { type: 'boolean', default: false },
  },
})
const sizes = positionals.length > 0 ? positionals : ['12x128', '24x128', '48x128', '48x256', '48x512']
if (values.one) await measure(sizes[0] ?? '')
else {
  console.log(' layers x experts  open decode s  a step s  MB then  open training s  a pass s  MB in the end')
  // A process each, so that one size's memory is not the next one's.
  const flags = [
    `--threads=${values.threads}`,
    ...(values['adapt-experts'] ? ['--adapt-experts'] : []),
    ...(values['use-4bit'] ? ['--use-4bit'] : []),
  ]
  for (const size of sizes)
    spawnSync(process.execPath, [...process.execArgv, import.meta.filename, ...flags, '--one', size], {
      stdio: 'inherit',
    })
}

async function measure(size: string): Promise<void> {
  const [layers = 0, experts = 0] = size.split('x').map(Number)
  const folder = await mkdtemp(join(tmpdir(), 'gym-experts-'))
  try {
    await makeModel(folder, layers, experts)
    const policy = await loadPolicy({
      modelDir: folder,
      lora: {
        rank: 2,
        alpha: 4,
        targets: values['adapt-experts'] ? LORA_TARGETS : ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
        useRslora: false,
      },
      engine: 'onnx-cpu',
      threads: Number(values.threads),
      use4bit: values['use-4bit'],
      cacheFolder: join(folder, 'cache'),
    })
    policy.setAdapter(policy.initialAdapter(1))
    const [opened, decoding] = await timed(() => policy.startDecoding([Int32Array.of(5, 6, 7, 8)]))
    decoding.select(Array.from({ length: ROWS }, () => 0))
    const steps: number[] = []
    for (let step = 0; step < 5; step++)
      steps.push((await timed(() => decoding.step(new Int32Array(ROWS).map((_, row) => 9 + row))))[0])
    decoding.close()
    const afterDecoding = memory()
    const pass = (): Promise<unknown> => policy.lossAndGradient(BATCH, LOSS)
    const [first] = await timed(pass)
    const passes: number[] = []
    for (let i = 0; i < 5; i++) passes.push((await timed(pass))[0])
    const row = [opened, median(steps), afterDecoding, first, median(passes), memory()]
    console.log(
      `${size.padStart(17)}  ${row.map((value, i) => value.toFixed(COLUMNS[i]?.digits).padStart(COLUMNS[i]?.width ?? 0)).join('  ')}`,
    )
    await policy.close()
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function makeModel(folder: string, layers: number, experts: number): Promise<void> {
  const config = {
    architectures: ['Qwen3MoeForCausalLM'],
    model_type: 'qwen3_moe',
    vocab_size: VOCABULARY,
    hidden_size: HIDDEN,
    intermediate_size: HIDDEN,
    moe_intermediate_size: HIDDEN,
    num_hidden_layers: layers,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: HEAD,
    num_experts: experts,
    num_experts_per_tok: Math.min(8, experts),
    norm_topk_prob: true,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    max_position_embeddings: 256,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    tie_word_embeddings: true,
    eos_token_id: 2,
    pad_token_id: 0,
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  let state = 12345
  const matrix = (...shape: number[]): TensorValue => {
    const numbers = new Float32Array(shape.reduce((a, b) => a * b, 1))
    for (let i = 0; i < numbers.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      numbers[i] = (state / 2 ** 32 - 0.5) * 0.3
    }
    return { shape, values: numbers }
  }
  const ones = (size: number): TensorValue => ({ shape: [size], values: new Float32Array(size).fill(1) })
  const tensors: [string, TensorValue][] = [
    ['model.embed_tokens.weight', matrix(VOCABULARY, HIDDEN)],
    ['model.norm.weight', ones(HIDDEN)],
  ]
  for (let layer = 0; layer < layers; layer++) {
    const module = `model.layers.${layer}`
    tensors.push(
      [`${module}.input_layernorm.weight`, ones(HIDDEN)],
      [`${module}.post_attention_layernorm.weight`, ones(HIDDEN)],
      [`${module}.self_attn.q_proj.weight`, matrix(2 * HEAD, HIDDEN)],
      [`${module}.self_attn.k_proj.weight`, matrix(HEAD, HIDDEN)],
      [`${module}.self_attn.v_proj.weight`, matrix(HEAD, HIDDEN)],
      [`${module}.self_attn.o_proj.weight`, matrix(HIDDEN, 2 * HEAD)],
      [`${module}.self_attn.q_norm.weight`, ones(HEAD)],
      [`${module}.self_attn.k_norm.weight`, ones(HEAD)],
      [`${module}.mlp.gate.weight`, matrix(experts, HIDDEN)],
    )
    for (let expert = 0; expert < experts; expert++)
      for (const part of ['gate', 'up', 'down'])
        tensors.push([`${module}.mlp.experts.${expert}.${part}_proj.weight`, matrix(HIDDEN, HIDDEN)])
  }
  await writeFile(join(folder, 'model.safetensors'), encodeSafetensors(tensors))
}

async function timed<T>(work: () => Promise<T>): Promise<[seconds: number, result: T]> {
  const started = performance.now()
  const result = await work()
  return [(performance.now() - started) / 1000, result]
}

/** Resident MB of 2^20 bytes. */
function memory(): number {
  return process.memoryUsage().rss / 2 ** 20
}
