import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KvCache } from '../src/kv-cache.ts'
import type { ModelConfig } from '../src/models/config.ts'
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

/** Feeds `queries` new tokens of different numbers to cache and model. */
function feed(cache: KvCache, rows: Rows, queries: number, next: () => number): void {
  const { dims, values } = cache.fresh(queries)
  assert.deepEqual(dims, [2 * LAYERS, rows.length, HEADS, queries, SIZE])
  for (const row of rows)
    for (let query = 0; query < queries; query++)
      row.push(Array.from({ length: 2 * LAYERS * HEADS * SIZE }, next))
  for (let part = 0; part < 2 * LAYERS; part++)
    for (const [index, row] of rows.entries())
      for (let head = 0; head < HEADS; head++)
        for (let query = 0; query < queries; query++)
          for (let i = 0; i < SIZE; i++) {
            const token = row[row.length - queries + query] ?? []
            const at = (((part * rows.length + index) * HEADS + head) * queries + query) * SIZE + i
            values[at] = token[(part * HEADS + head) * SIZE + i] ?? NaN
          }
  cache.append(queries)
}

function check(cache: KvCache, rows: Rows): void {
  const inputs = cache.inputs()
  for (let layer = 0; layer < LAYERS; layer++)
    for (const [offset, name] of Object.values(cacheNames(layer)).entries()) {
      const input = inputs[name]
      assert.ok(input)
      assert.deepEqual(input.dims, [rows.length, HEADS, cache.capacity, SIZE])
      assert.equal(input.values.length, rows.length * HEADS * cache.capacity * SIZE)
      const part = 2 * layer + offset
      for (const [index, row] of rows.entries())
        for (let head = 0; head < HEADS; head++) {
          const at = (index * HEADS + head) * cache.capacity * SIZE
          const seen = [...input.values.subarray(at, at + cache.filled * SIZE)]
          const expected = row.flatMap((token) =>
            token.slice((part * HEADS + head) * SIZE, (part * HEADS + head + 1) * SIZE),
          )
          assert.deepEqual(seen, expected, `${name}, row ${index}, head ${head}`)
        }
    }
}

describe('the KV cache', () => {
  for (const [name, room] of [
    ['without room', { rows: 0, tokens: 0 }],
    ['with room for less than comes', { rows: 4, tokens: 20 }],
    ['with room for all', { rows: 6, tokens: 60 }],
  ] as const)
    it(`keeps every row's tokens while rows repeat, leave, change places and grow, ${name}`, () => {
      let count = 0
      const next = (): number => ++count
      let rows: Rows = [[], []]
      const cache = new KvCache(config, rows.length, room)
      cache.reserve(1)
      feed(cache, rows, 13, next)
      check(cache, rows)
      for (const order of [[0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5], [1, 2, 4, 5], [3, 0, 2], [1, 1, 2], [2]]) {
        rows = order.map((row) => [...(rows[row] ?? [])])
        cache.select(order)
        check(cache, rows)
        // Across the end of a block of 16 places now and then.
        for (let step = 0; step < 7; step++) feed(cache, rows, 1, next)
        check(cache, rows)
      }
    })

  it('hands out the same inputs until rows or capacity change, and keeps its memory where it was announced', () => {
    const cache = new KvCache(config, 1, { rows: 2, tokens: 40 })
    cache.reserve(1)
    const memory = cache.inputs()['keys_0']?.values.buffer
    const first = cache.inputs()
    feed(cache, [[]], 3, () => 1)
    assert.equal(cache.inputs(), first)
    cache.select([0, 0])
    cache.reserve(40)
    assert.notEqual(cache.inputs(), first)
    assert.equal(cache.inputs()['keys_0']?.values.buffer, memory)
  })
})
