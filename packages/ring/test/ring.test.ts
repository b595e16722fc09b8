/** The ring over real libp2p connections in one process. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { deadline, startRing, stopAll, type RigNode } from './rig.ts'

/** Node i holds v[k] = (i + 1) * (k % 7): small integers, so every sum is exact in float32 whatever the order. */
function vectorOf(i: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, k) => (i + 1) * (k % 7))
}

/** All nodes take part in the next round; returns the results in node order. */
async function round(
  nodes: readonly RigNode[],
  length: number,
  weights: readonly number[],
): Promise<Float32Array[]> {
  const signal = deadline(nodes)
  return Promise.all(
    nodes.map(async ({ ring, state }, i) => {
      await ring.ready({ signal })
      const vector = vectorOf(i, length)
      const before = vector.slice()
      const r = state.round + 1
      const result = await ring.allReduce(vector, { round: r, weight: weights[i] ?? 1, signal })
      assert.deepEqual(vector, before, 'the vector is untouched')
      state.apply(r, result.hash)
      return result.mean
    }),
  )
}

describe('all-reduce', () => {
  for (const count of [1, 2, 3, 4, 5]) {
    it(`gives ${count} nodes the exact weighted mean at every length`, async () => {
      const nodes = await startRing(count, { limits: { chunkBytes: 64 } })
      try {
        for (const length of [0, 1, count - 1, count, 17, 1003]) {
          const weights = nodes.map((_, i) => i + 1)
          const means = await round(nodes, length, weights)
          // sum w_i v_i / sum w_i with w_i = i+1, v_i = (i+1) x: x * sum (i+1)^2 / sum (i+1), rounded once to float32.
          const squares = weights.reduce((sum, w) => sum + w * w, 0)
          const total = weights.reduce((sum, w) => sum + w, 0)
          const expected = Float32Array.from({ length }, (_, k) => (squares * (k % 7)) / total)
          for (const mean of means) assert.deepEqual(mean, expected)
        }
        const hashes = new Set(nodes.map(({ state }) => state.log.join()))
        assert.equal(hashes.size, 1, 'all nodes agreed on every result hash')
      } finally {
        await stopAll(nodes)
      }
    })
  }
})

describe('lossy wire types', () => {
  for (const wire of ['bf16', 'int8'] as const) {
    it(`${wire}: all nodes get the same bits, and the sum over rounds is right`, async () => {
      const nodes = await startRing(3, { wire })
      const rounds = 8
      const signal = deadline(nodes)
      const sums = nodes.map(() => new Float64Array(600))
      try {
        for (let r = 1; r <= rounds; r++) {
          await Promise.all(
            nodes.map(async ({ ring, state }, i) => {
              await ring.ready({ signal })
              // Values no short type can hold: k/1000 + i/7.
              const vector = Float32Array.from({ length: 600 }, (_, k) => k / 1000 + i / 7)
              const result = await ring.allReduce(vector, { round: r, weight: 1, signal })
              state.apply(r, result.hash)
              result.mean.forEach((x, k) => ((sums[i] as Float64Array)[k] = (sums[i]?.[k] ?? 0) + x))
            }),
          )
        }
        assert.deepEqual(sums[1], sums[0])
        assert.deepEqual(sums[2], sums[0])
        // int8: without feedback the error of every round is the same and grows to 8 steps; with it, it stays under a
        // few. bf16: half a step (2^-8 of the value at most: 8 bits) for each of three roundings.
        sums[0]?.forEach((sum, k) => {
          const exact = rounds * (k / 1000 + 1 / 7)
          const bound = wire === 'int8' ? 3 * 2 ** -7 : 3 * 2 ** -8 * exact + 1e-6
          assert.ok(Math.abs(sum - exact) < bound, `element ${k}: ${sum}, expected about ${exact}`)
        })
      } finally {
        await stopAll(nodes)
      }
    })
  }
})

describe('several direct sockets and signed segments', () => {
  for (const options of [
    { integrity: 'signed' },
    { sockets: 3 },
    { integrity: 'signed', sockets: 2, wire: 'int8' },
    { integrity: 'signed', carrier: 'stream' },
  ] as const) {
    it(`${JSON.stringify(options)}: three nodes commit the same results, released or not`, async () => {
      const nodes = await startRing(3, { ...options, limits: { chunkBytes: 256 } })
      const signal = deadline(nodes)
      try {
        const kept: { mean: Float32Array; before: Float32Array }[] = []
        for (let r = 1; r <= 4; r++) {
          const results = await Promise.all(
            nodes.map(async ({ ring, state }, i) => {
              await ring.ready({ signal })
              const result = await ring.allReduce(vectorOf(i, 1000), { round: r, weight: 1, signal })
              state.apply(r, result.hash)
              return result
            }),
          )
          // (1 + 2 + 3) / 3 = 2 times k % 7: small integers, exact in every wire type.
          const expected = Float32Array.from({ length: 1000 }, (_, k) => 2 * (k % 7))
          for (const { mean, hash } of results) {
            assert.deepEqual(mean, expected)
            assert.deepEqual(hash, results[0].hash)
          }
          // One node keeps its results, the others hand theirs back, twice for good measure.
          kept.push({ mean: results[0].mean, before: results[0].mean.slice() })
          for (const result of results.slice(1)) {
            result.release()
            result.release()
            assert.throws(() => result.mean, /was released/)
          }
        }
        for (const { mean, before } of kept) assert.deepEqual(mean, before, 'no later round wrote here')
      } finally {
        await stopAll(nodes)
      }
    })
  }
})
