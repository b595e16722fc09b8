/**
 * Writes random models for speed tests, Qwen3 shapes of 42 and 596 million parameters, as Hugging Face folders.
 * Usage: node --conditions=gym-source bench/make-models.ts OUTDIR [60m] [06b]
 */
import { createWriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { once } from 'node:events'
import { finished } from 'node:stream/promises'

interface Shape {
  hidden_size: number
  intermediate_size: number
  num_hidden_layers: number
  num_attention_heads: number
  num_key_value_heads: number
  head_dim: number
  vocab_size: number
  dtype: 'float32' | 'bfloat16'
}

const SHAPES: Readonly<Record<string, Shape>> = {
  '60m': {
    hidden_size: 512,
    intermediate_size: 1536,
    num_hidden_layers: 8,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 64,
    vocab_size: 32000,
    dtype: 'float32',
  },
  '06b': {
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 151936,
    dtype: 'bfloat16',
  },
}

/** Standard deviation of all matrices, as transformers initialises Qwen3. */
const DEVIATION = 0.02

const [outDir, ...names] = process.argv.slice(2)
if (outDir === undefined) {
  console.error('usage: node --conditions=gym-source bench/make-models.ts OUTDIR [60m] [06b]')
  process.exit(2)
}
for (const name of names.length > 0 ? names : Object.keys(SHAPES)) {
  const shape = SHAPES[name]
  if (shape === undefined) {
    console.error(`unknown shape ${name}; known: ${Object.keys(SHAPES).join(', ')}`)
    process.exit(2)
  }
  const folder = path.join(outDir, `qwen3-${name}-like`)
  await makeModel(folder, shape)
  console.log(folder)
}

async function makeModel(folder: string, shape: Shape): Promise<void> {
  await mkdir(folder, { recursive: true })
  const config = {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    attention_bias: false,
    hidden_act: 'silu',
    ...shape,
    bos_token_id: 1,
    eos_token_id: 2,
    pad_token_id: 0,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    rope_parameters: { rope_type: 'default', rope_theta: 1e6 },
    sliding_window: null,
    use_sliding_window: false,
    tie_word_embeddings: true,
  }
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config, null, 2))
  await writeFile(
    path.join(folder, 'generation_config.json'),
    JSON.stringify({ eos_token_id: 2, pad_token_id: 0 }),
  )
  await writeFile(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer(shape.vocab_size)))
  await writeFile(path.join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig()))
  await writeWeights(path.join(folder, 'model.safetensors'), shape)
}

/** Words by white space: "0", "1", ... for a tenth of the ids, then "w<id>". */
function tokenizer(vocabSize: number): object {
  const digits = Math.floor(vocabSize / 10)
  const words = ['<pad>', '<bos>', '<eos>']
  for (let i = 0; i < digits; i++) words.push(`${i}`)
  for (let id = 3 + digits; id < vocabSize; id++) words.push(`w${id}`)
  const special = words.slice(0, 3).map((content, id) => {
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  })
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special,
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder: null,
    model: {
      type: 'WordLevel',
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      unk_token: '<pad>',
    },
  }
}

function tokenizerConfig(): object {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    pad_token: '<pad>',
    bos_token: '<bos>',
    eos_token: '<eos>',
    padding_side: 'left',
  }
}

function tensorShapes(shape: Shape): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: inner, head_dim: head } = shape
  const queries = shape.num_attention_heads * head
  const keys = shape.num_key_value_heads * head
  const tensors: [string, number[]][] = [['model.embed_tokens.weight', [shape.vocab_size, hidden]]]
  for (let layer = 0; layer < shape.num_hidden_layers; layer++) {
    const module = `model.layers.${layer}`
    tensors.push(
      [`${module}.input_layernorm.weight`, [hidden]],
      [`${module}.mlp.down_proj.weight`, [hidden, inner]],
      [`${module}.mlp.gate_proj.weight`, [inner, hidden]],
      [`${module}.mlp.up_proj.weight`, [inner, hidden]],
      [`${module}.post_attention_layernorm.weight`, [hidden]],
      [`${module}.self_attn.k_norm.weight`, [head]],
      [`${module}.self_attn.k_proj.weight`, [keys, hidden]],
      [`${module}.self_attn.o_proj.weight`, [hidden, queries]],
      [`${module}.self_attn.q_norm.weight`, [head]],
      [`${module}.self_attn.q_proj.weight`, [queries, hidden]],
      [`${module}.self_attn.v_proj.weight`, [keys, hidden]],
    )
  }
  return [...tensors, ['model.norm.weight', [hidden]]]
}

async function writeWeights(file: string, shape: Shape): Promise<void> {
  const bytesEach = shape.dtype === 'float32' ? 4 : 2
  const dtype = shape.dtype === 'float32' ? 'F32' : 'BF16'
  const header: Record<string, unknown> = {}
  let offset = 0
  const tensors = tensorShapes(shape)
  for (const [name, dims] of tensors) {
    const bytes = dims.reduce((a, b) => a * b, bytesEach)
    header[name] = { dtype, shape: dims, data_offsets: [offset, offset + bytes] }
    offset += bytes
  }
  const json = JSON.stringify(header)
  const padded = json.padEnd(Math.ceil(json.length / 8) * 8)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))
  const stream = createWriteStream(file)
  const put = async (chunk: Uint8Array): Promise<void> => {
    if (!stream.write(chunk)) await once(stream, 'drain')
  }
  await put(length)
  await put(Buffer.from(padded))
  const normal = normalNumbers(1)
  for (const [, dims] of tensors) {
    const rows = dims.length === 1 ? 1 : (dims[0] ?? 1)
    const columns = dims.at(-1) ?? 1
    for (let row = 0; row < rows; row++) {
      const values = new Float32Array(columns)
      for (let i = 0; i < columns; i++) values[i] = dims.length === 1 ? 1 : DEVIATION * normal()
      const words = new Uint32Array(values.buffer)
      await put(
        new Uint8Array(
          bytesEach === 4 ? values.buffer : Uint16Array.from(words, (word) => word >>> 16).buffer,
        ),
      )
    }
  }
  stream.end()
  await finished(stream)
}

/** Standard normal numbers from a 32-bit xorshift: a sum of uniform ones, close enough for speed tests. */
function normalNumbers(seed: number): () => number {
  let state = seed >>> 0 || 1
  const uniform = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 4294967296
  }
  // Four uniforms: variance 1/3, scaled to 1.
  return () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3)
}
