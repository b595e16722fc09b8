/** Memory of rounds: what is used again, what lies where kernels work in place, and what happens without room. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { ChunkMemory } from '../src/kernels/chunk-memory.ts'
import { RoundMemory } from '../src/round/round-memory.ts'

describe('the memory of rounds', () => {
  it('holds the vector, three results and three residuals in one piece, none over another', () => {
    const memory = new RoundMemory('int8', 1000, 2048)
    const floats = [memory.vector, ...[1, 2, 3].map(() => memory.results.take())]
    const halves = [1, 2, 3].map(() => memory.residuals.take())
    const arrays = [...floats, ...halves]
    assert.equal(new Set(arrays.map(({ buffer }) => buffer)).size, 1)
    arrays.forEach((array, i) => array.fill(i + 1))
    arrays.forEach((array, i) => assert.ok(array.every((x) => x === i + 1)))
  })

  it('gives more results than it has room for elsewhere, and each again once it is back', () => {
    const memory = new RoundMemory('f32', 100_000, 2048)
    const results = [1, 2, 3, 4].map(() => memory.results.take())
    assert.equal(new Set(results).size, 4)
    assert.notEqual(results[3].buffer, memory.vector.buffer)
    for (const result of results) memory.results.giveBack(result)
    memory.results.giveBack(results[0])
    const again = [1, 2, 3, 4].map(() => memory.results.take())
    assert.deepEqual(new Set(again), new Set(results), 'what comes back twice is not given twice')
  })

  it('takes nothing back that it has not given', () => {
    const memory = new RoundMemory('f32', 8, 2048)
    const foreign = new RoundMemory('f32', 8, 2048).results.take()
    memory.results.giveBack(foreign)
    assert.notEqual(memory.results.take(), foreign)
  })
})

describe('the memory of the kernels', () => {
  it('lends nothing when more is wanted than addresses reach, and works all the same', () => {
    const memory = new ChunkMemory(512, 2 ** 33)
    assert.equal(memory.lendFloats(2 ** 20), null)
    assert.equal(memory.lendHalves(2 ** 20), null)
  })
})
