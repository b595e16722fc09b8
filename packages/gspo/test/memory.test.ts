import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { activationBytesPerToken, residentBytes, trainingTokens } from '../src/memory.ts'
import { parseModelConfig } from '../src/models/config.ts'

/** The shape of Qwen3-0.6B. */
const CONFIG = parseModelConfig(
  {
    architectures: ['Qwen3ForCausalLM'],
    vocab_size: 151936,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 4096,
    tie_word_embeddings: true,
  },
  {},
)
const GIB = 2 ** 30
const request = (use4bit: boolean, limitBytes: number | undefined) => {
  return { config: CONFIG, parameters: 596_000_000, use4bit, limitBytes }
}

describe('memory', () => {
  it('counts a layer as worked out by hand', () => {
    // 6 * 1024 + 4 * 24 * 128 + 5 * 3072 + 2 * 16 * 256 = 41984 numbers, 28 layers, 4 bytes.
    assert.equal(activationBytesPerToken(CONFIG), 41984 * 28 * 4)
  })

  it('a 0.6B model in 4 bits leaves room to train below 4 GB, in float32 it does not', () => {
    assert.ok(residentBytes(request(true, undefined)) < 2.5 * GIB)
    assert.ok(trainingTokens(request(true, 4 * GIB)) >= 128)
    assert.throws(() => trainingTokens(request(false, 4 * GIB)), {
      code: 'OUT_OF_MEMORY_LIMIT',
      message: /4096 MB.*4-bit/,
    })
  })

  it('an engine that copies weights holds them once as float32, in 4 bits too', () => {
    const copied = (use4bit: boolean): number =>
      residentBytes({ ...request(use4bit, undefined), weights: 'copied' })
    // 300 MiB for the process; 4 bytes for each of 596 million, and in 4 bits for the 151936 x 1024 of the head again.
    assert.equal(copied(false), 300 * 2 ** 20 + 4 * 596_000_000)
    assert.equal(copied(true), copied(false) + 4 * 151936 * 1024)
  })

  it('more memory means more tokens, up to a bound', () => {
    const tokens = [3, 4, 8, 1000].map((limit) => trainingTokens(request(true, limit * GIB)))
    assert.deepEqual(
      tokens,
      [...tokens].sort((a, b) => a - b),
    )
    assert.equal(tokens.at(-1), 4096)
  })
})
