import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import { cacheBytes, prefillBytes, promptsAtOnce, sequenceBytes, stateBytes } from '../src/decoding-memory.ts'
import { residentBytes, type MemoryRequest } from '../src/memory.ts'
import { parseModelConfig } from '../src/models/config.ts'
import { QWEN3_06B } from './model-shapes.ts'

const MIB = 2 ** 20
const request = (limitBytes: number | undefined): MemoryRequest => {
  return { config: QWEN3_06B, parameters: 596_000_000, use4bit: true, quantBlock: 128, limitBytes }
}
const DEMAND = { promptLength: 64, completionLength: 960, group: 8, maxRows: 256 }

describe('memory of sampling', () => {
  it('a sequence’s cache is layers x heads x head size x places x 4 bytes x 2', () => {
    // 28 x 8 x 128 x 1024 x 4 x 2 = 234,881,024 bytes, 224 MiB.
    assert.equal(cacheBytes(QWEN3_06B, 1024), 224 * MIB)
    // In blocks of 16 places.
    assert.equal(cacheBytes(QWEN3_06B, 1009), 224 * MIB)
    assert.equal(cacheBytes(QWEN3_06B, 1008), (224 * MIB * 1008) / 1024)
    assert.equal(stateBytes(QWEN3_06B), 0)
    // One of 56 arrays again while it grows, 4 MiB, and 151936 logits and probabilities of 4 bytes.
    assert.equal(sequenceBytes(QWEN3_06B, 1024), 228 * MIB + 2 * 4 * 151936)
  })

  it('layers of linear attention keep states of one size instead', () => {
    const folder = path.join(import.meta.dirname, '../../../test/golden/models/qwen3-next')
    const config = parseModelConfig(
      JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<string, unknown>,
      {},
    )
    const { linear } = config
    assert.ok(linear)
    const count = config.linearLayers.filter((isLinear) => isLinear).length
    assert.ok(count > 0 && count < config.layers)
    // Kernel less one rows of q, k and v, a matrix of keys by values for each head; one copy read, one written.
    const channels = 2 * linear.keyHeads * linear.keySize + linear.valueHeads * linear.valueSize
    const numbers = (linear.kernel - 1) * channels + linear.valueHeads * linear.keySize * linear.valueSize
    assert.equal(stateBytes(config), count * numbers * 4 * 2)
    assert.equal(
      cacheBytes(config, 16),
      (config.layers - count) * config.kvHeads * config.headSize * 16 * 4 * 2,
    )
  })

  it('samples as many groups at once as the limit holds, and all that max_decoding_rows allows without one', () => {
    assert.equal(promptsAtOnce(request(undefined), DEMAND), 32)
    assert.equal(promptsAtOnce(request(2 ** 40), DEMAND), 32)
    // A group takes 8 x (228 MiB + 1.16 MiB) = 1833.3 MiB.
    const group = 8 * (228 * MIB + 8 * 151936)
    // The share of logits is at its most from 3 GiB on, so that what stays does not change.
    const base = residentBytes(request(undefined))
    const limitFor = (groups: number): number => Math.ceil((base + groups * group) / 0.9)
    assert.equal(promptsAtOnce(request(limitFor(3)), DEMAND), 3)
    assert.equal(promptsAtOnce(request(limitFor(3) - 8), DEMAND), 2)
    assert.equal(promptsAtOnce(request(limitFor(1)), { ...DEMAND, maxRows: 1 }), 1)
  })

  it('a long prompt counts as it runs through the model: a layer’s rows and its attention weights', () => {
    // 4 x 1024 + 2 x 32 x 128 + 3 x 3072 + 3 x 16 x 2048 = 119,808 numbers of 4 bytes a token, beside the cache.
    assert.equal(prefillBytes(QWEN3_06B, 2048), sequenceBytes(QWEN3_06B, 2048) + 2048 * 119_808 * 4)
  })

  it('says what to lower where not one group fits, and by how much to raise the limit', () => {
    let message = ''
    try {
      promptsAtOnce(request(3072 * MIB), DEMAND)
    } catch (error) {
      message = String(error)
    }
    assert.match(
      message,
      /group of 8 completions of up to 960 tokens on a prompt of 64 takes about 1834 MB.*memory_limit_mb 3072 leaves.*lower group_size or max_completion_length, shorten prompts, or raise/,
    )
    const more = Number(/by (\d+)$/.exec(message)?.[1])
    assert.equal(promptsAtOnce(request((3072 + more) * MIB), DEMAND), 1)
    assert.throws(() => promptsAtOnce(request((3072 + more - 2) * MIB), DEMAND), {
      code: 'OUT_OF_MEMORY_LIMIT',
    })
    assert.throws(() => promptsAtOnce({ ...request(4096 * MIB), use4bit: false }, DEMAND), /set use_4bit/)
  })
})
