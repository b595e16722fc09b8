import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { planBlocks } from '../src/decoding-blocks.ts'
import { KvCache } from '../src/kv-cache.ts'
import type { ModelConfig } from '../src/models/model-config.ts'
import { cacheNames } from '../src/models/decode-graph.ts'
import { QWEN3_06B } from './model-shapes.ts'

const [LAYERS, HEADS, SIZE] = [2, 2, 3]
const config: ModelConfig = {
  ...QWEN3_06B,
  layers: LAYERS,
  kvHeads: HEADS,
  headSize: SIZE,
  linearLayers: [false, false],
}

/** What went in: tokens of each row, each with its [2 * layers][heads][size] numbers. */
type Rows = number[][][]

/** Feeds `queries` new tokens of different numbers to cache and model; rows in the order of their places. */
function feed(cache: KvCache, rows: Rows, members: number, queries: number, next: () => number): void {
  const { dims, values } = cache.fresh(queries)
  assert.deepEqual(dims, [2 * LAYERS, rows.length / members, HEADS, members, queries, SIZE])
  for (const row of rows)
    for (let query = 0; query < queries; query++)
      row.push(Array.from({ length: 2 * LAYERS * HEADS * SIZE }, next))
  for (let part = 0; part < 2 * LAYERS; part++)
    for (const [place, row] of rows.entries())
      for (let head = 0; head < HEADS; head++)
        for (let query = 0; query < queries; query++)
          for (let i = 0; i < SIZE; i++) {
            const token = row[row.length - queries + query] ?? []
            const block = (part * (rows.length / members) + Math.floor(place / members)) * HEADS + head
            const at = ((block * members + (place % members)) * queries + query) * SIZE + i
            values[at] = token[(part * HEADS + head) * SIZE + i] ?? NaN
          }
  cache.append(queries)
}

/** Compares the inputs of one part of the cache with what its rows have. */
function check(cache: KvCache, of: 'prompt' | 'own', rows: Rows, members: number): void {
  const { promptPlaces, places } = cache.extent
  const room = of === 'prompt' ? promptPlaces : places
  const shape =
    of === 'prompt' ? [rows.length, HEADS, room, SIZE] : [rows.length / members, HEADS, members, room, SIZE]
  for (let layer = 0; layer < LAYERS; layer++)
    for (const [offset, name] of Object.values(cacheNames(layer)[of]).entries()) {
      const input = cache.current[name]
      assert.ok(input)
      assert.deepEqual(input.dims, shape)
      assert.equal(input.values.length, rows.length * HEADS * room * SIZE)
      const part = 2 * layer + offset
      for (const [place, row] of rows.entries())
        for (let head = 0; head < HEADS; head++) {
          const block = Math.floor(place / members) * HEADS + head
          const at = (block * members + (place % members)) * room * SIZE
          const seen = [...input.values.subarray(at, at + row.length * SIZE)]
          const expected = row.flatMap((token) =>
            token.slice((part * HEADS + head) * SIZE, (part * HEADS + head + 1) * SIZE),
          )
          assert.deepEqual(seen, expected, `${name}, place ${place}, head ${head}`)
        }
    }
}

describe('the KV cache', () => {
  for (const [name, room] of [
    ['without room', { rows: 0, tokens: 0 }],
    ['with room for less than comes', { rows: 4, tokens: 20 }],
    ['with room for all', { rows: 8, tokens: 80 }],
  ] as const)
    it(`keeps each prompt once a block and every row's own tokens, while rows repeat, leave, change places and grow, ${name}`, () => {
      let count = 0
      const next = (): number => ++count
      const prompts: Rows = [[], []]
      const cache = new KvCache(config, prompts.length, room)
      feed(cache, prompts, 1, 13, next)
      feed(cache, prompts, 1, 8, next)
      check(cache, 'own', prompts, 1)
      cache.endPrompts()
      assert.deepEqual(cache.extent, { promptFilled: 21, promptPlaces: 32, filled: 0, places: 16 })
      check(cache, 'prompt', prompts, 1)

      let promptOf = [0, 1]
      let blocks = planBlocks(promptOf, { row: 1, prompt: 1 })
      let rows: Rows = blocks.rows.map(() => [])
      for (const [order, cost] of [
        [[0, 0, 0, 1, 1, 1], 100],
        [[0, 1, 2, 3, 4, 5], 0.1],
        [[1, 2, 4, 5, 3], 100],
        [[3, 0, 2], 0.1],
        [[1, 1, 2], 100],
        [[2], 1],
      ] as const) {
        const places = order.map((row) => blocks.rows.indexOf(row))
        promptOf = order.map((row) => promptOf[row] ?? 0)
        blocks = planBlocks(promptOf, { row: 1, prompt: cost })
        const moved = blocks.rows.map((row) => places[row] ?? 0)
        rows = moved.map((place) => [...(rows[place] ?? [])])
        cache.select(moved, blocks)
        for (let step = 0; step < 7; step++) {
          check(
            cache,
            'prompt',
            blocks.prompts.map((prompt) => prompts[prompt] ?? []),
            1,
          )
          check(cache, 'own', rows, blocks.members)
          // Across the end of 16 places now and then.
          feed(cache, rows, blocks.members, 1, next)
        }
        check(cache, 'own', rows, blocks.members)
      }
    })

  it('hands out the same inputs until rows or places change, and keeps its memory where it was announced', () => {
    const cache = new KvCache(config, 1, { rows: 2, tokens: 60 })
    feed(cache, [[]], 1, 20, () => 1)
    cache.endPrompts()
    const [own, prompt] = ['keys_0', 'prompt_keys_0'].map((name) => cache.current[name]?.values.buffer)
    const first = cache.current
    feed(cache, [[]], 1, 3, () => 1)
    assert.equal(cache.current, first)
    cache.select([0, 0], { members: 2, prompts: [0], rows: [0, 1] })
    for (let step = 0; step < 36; step++) feed(cache, [[], []], 2, 1, () => 1)
    assert.notEqual(cache.current, first)
    assert.equal(cache.extent.places, 48)
    assert.equal(cache.current['keys_0']?.values.buffer, own)
    assert.equal(cache.current['prompt_keys_0']?.values.buffer, prompt)
  })
})
