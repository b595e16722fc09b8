import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { loadPolicy, type LossBatch, type Policy } from '../src/policy.ts'
import { dequantiseBytes, dequantiseRows, quantiseBytes, quantiseRows } from '../src/weights/quantise.ts'
import { decodeSafetensors, encodeSafetensors } from '../src/weights/safetensors.ts'
import { SEQUENCE_LOSS } from './loss-fixtures.ts'

const MODEL = path.join(import.meta.dirname, '../../../test/golden/models/qwen3-untied')
const LORA = { rank: 4, alpha: 8, targets: ['q_proj', 'o_proj', 'down_proj'] as const, useRslora: false }
const LOSS = { ...SEQUENCE_LOSS, max_completion_length: 6 }

describe('blockwise quantisation', () => {
  it('codes and scales of 4 bits are those worked out by hand', () => {
    // The extreme -4 gets code 0 and scale 0.5; the others round(v / 0.5) + 8.
    const { codes, scales } = quantiseRows(Float32Array.of(-4, 3.5, 1, 0.2), 4)
    assert.deepEqual([...scales], [0.5])
    assert.deepEqual([...codes], [0 | (15 << 4), 10 | (8 << 4)])
  })

  it('a positive extreme gets a negative scale, so that it is exact too', () => {
    const rows = quantiseRows(Float32Array.of(8, -3, 0, 1), 4)
    assert.deepEqual([...rows.scales], [-1])
    // Adding zero turns -0 into 0.
    assert.deepEqual(
      [...dequantiseRows(rows, 4)].map((value) => value + 0),
      [8, -3, 0, 1],
    )
  })

  it('a block of zeros stays zero', () => {
    assert.deepEqual([...dequantiseRows(quantiseRows(new Float32Array(4), 4), 4)].map(Math.abs), [0, 0, 0, 0])
  })

  it('an extreme is cut where that serves the others: a tenth of its scale off, and theirs exact', () => {
    // Scale 0.9 makes 6.3 = 7 * 0.9 and 4.5 = 5 * 0.9 exact and costs -8 a distance of 0.8; the plain scale 1 would be
    // off by 0.3 and 0.5 thirty times each.
    const values = Float32Array.from({ length: 64 }, (_, i) => (i === 0 ? -8 : i % 2 === 0 ? 6.3 : 4.5))
    const rows = quantiseRows(values, 64)
    assert.deepEqual([...rows.scales], [Math.fround(0.9)])
    const restored = dequantiseRows(rows, 64)
    assert.deepEqual(
      [restored[0], restored[1], restored[2]].map((value) => Number(value?.toFixed(5))),
      [-7.2, 4.5, 6.3],
    )
  })

  it('normal numbers come back within a tenth of their size at blocks of 128, closer in smaller ones', () => {
    // Sums of twelve uniform numbers from a Lehmer generator: normal enough. Measured with another program: 0.098.
    let state = 1
    const uniform = (): number => (state = (state * 48271) % 2147483647) / 2147483647
    const values = Float32Array.from({ length: 128 * 200 }, () => {
      let sum = -6
      for (let i = 0; i < 12; i++) sum += uniform()
      return sum
    })
    const error = (block: number): number => {
      const back = dequantiseRows(quantiseRows(values, block), block)
      const square = (of: (i: number) => number): number =>
        values.reduce((total, _, i) => total + of(i) ** 2, 0)
      return Math.sqrt(square((i) => values[i] - back[i]) / square((i) => values[i]))
    }
    const errors = [32, 64, 128].map(error)
    assert.ok(errors[0] < errors[1] && errors[1] < errors[2] && errors[2] < 0.1, errors.join())
  })

  it('8-bit blocks have codes around 128, worked out by hand', () => {
    // Blocks of two: 127 / 127 = 1, then 2.54 / 127 = 0.02, then zeros.
    const rows = quantiseBytes(Float32Array.of(127, -3, 1.27, -2.54, 0, 0), 2)
    assert.deepEqual([...rows.codes], [255, 125, 192, 1, 128, 128])
    assert.deepEqual([...rows.scales], [1, Math.fround(0.02), 0])
    assert.deepEqual([...dequantiseBytes(rows, 2)].slice(0, 2), [127, -3])
  })
})

describe('a 4-bit policy', () => {
  let folder: string
  let quantised: Policy
  let widened: Policy
  let adapter: Float32Array

  before(async () => {
    // The same model twice: quantised at load, and its codes' values written out as float32.
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
    await cp(MODEL, folder, { recursive: true })
    const file = path.join(folder, 'model.safetensors')
    const { tensors } = decodeSafetensors(await readFile(file))
    const rewritten = [...tensors].map(([name, { shape, values }]) => {
      const isLinear = name.includes('_proj')
      if (!isLinear || !(values instanceof Float32Array)) return [name, { shape, values }] as const
      // The largest of 32, 64 and 128 that rows are whole multiples of.
      const block = [128, 64, 32].find((size) => (shape[1] ?? 0) % size === 0) ?? NaN
      return [name, { shape, values: dequantiseRows(quantiseRows(values, block), block) }] as const
    })
    await writeFile(file, encodeSafetensors(rewritten))
    quantised = await loadPolicy({ modelDir: MODEL, lora: LORA, engine: 'auto', threads: 1, use4bit: true })
    widened = await loadPolicy({ modelDir: folder, lora: LORA, engine: 'auto', threads: 1 })
    adapter = quantised.initialAdapter(3).map((value, i) => (value === 0 ? 0.02 * Math.sin(i) : value))
    quantised.setAdapter(adapter)
    widened.setAdapter(adapter)
  })
  after(async () => {
    await quantised.close()
    await widened.close()
    await rm(folder, { recursive: true, force: true })
  })

  it('is refused where a weight has no code, instead of computing with another number', async () => {
    const other = path.join(folder, 'damaged')
    await cp(MODEL, other, { recursive: true })
    const file = path.join(other, 'model.safetensors')
    const { tensors } = decodeSafetensors(await readFile(path.join(MODEL, 'model.safetensors')))
    for (const [name, bad] of [
      ['model.layers.1.mlp.down_proj.weight', NaN],
      ['lm_head.weight', -Infinity],
    ] as const) {
      const damaged = [...tensors].map(([tensor, { shape, values }]) => {
        const copy = values.slice()
        if (tensor === name) copy[77] = bad
        return [tensor, { shape, values: copy }] as const
      })
      await writeFile(file, encodeSafetensors(damaged))
      await assert.rejects(
        loadPolicy({ modelDir: other, lora: LORA, engine: 'auto', threads: 1, use4bit: true }),
        { code: 'BAD_SAFETENSORS', message: new RegExp(`${name} holds ${bad}`) },
      )
    }
  })

  it('trains with the head’s 8-bit codes where that is asked for, in parts of the vocabulary too', async () => {
    const other = path.join(folder, 'head')
    await cp(MODEL, other, { recursive: true })
    const file = path.join(folder, 'model.safetensors')
    const head = 'lm_head.weight'
    const rewritten = [...decodeSafetensors(await readFile(file)).tensors].map(
      ([name, { shape, values }]) => {
        const isHead = name === head && values instanceof Float32Array
        return [
          name,
          { shape, values: isHead ? dequantiseBytes(quantiseBytes(values, 64), 64) : values },
        ] as const
      },
    )
    await writeFile(path.join(other, 'model.safetensors'), encodeSafetensors(rewritten))
    const exact = await loadPolicy({ modelDir: other, lora: LORA, engine: 'auto', threads: 1 })
    const gradients: Float32Array[] = []
    for (const headParts of [1, 4]) {
      const own = { modelDir: MODEL, lora: LORA, engine: 'auto', threads: 1, headParts } as const
      const policy = await loadPolicy({ ...own, use4bit: true, use8bitHead: true })
      policy.setAdapter(adapter)
      gradients.push((await policy.lossAndGradient(batch, LOSS)).gradient)
      await policy.close()
    }
    exact.setAdapter(adapter)
    const { gradient } = await exact.lossAndGradient(batch, LOSS)
    await exact.close()
    for (const seen of gradients) assert.ok(distance(seen, gradient) <= 1e-5 * largest(gradient))
    const { gradient: withFloats } = await quantised.lossAndGradient(batch, LOSS)
    const off = distance(gradient, withFloats) / largest(withFloats)
    assert.ok(off > 1e-5 && off < 0.05, `8 bits of the head move the gradient by ${off}`)
  })

  const prompt = Int32Array.from({ length: 8 }, (_, i) => 5 + 3 * i)
  const batch: LossBatch = {
    rows: 2,
    promptLength: 8,
    completionLength: 6,
    promptIds: Int32Array.from([...prompt, ...prompt]),
    promptMask: new Int32Array(16).fill(1),
    completionIds: Int32Array.from({ length: 12 }, (_, i) => 9 + i),
    completionMask: new Int32Array(12).fill(1),
    advantages: Float32Array.of(1, -1),
    oldLogps: null,
    refLogps: null,
  }
  const largest = (values: Float32Array): number => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  const distance = (a: Float32Array, b: Float32Array): number => largest(a.map((x, i) => x - (b[i] ?? NaN)))

  it('trains on exactly the values that its codes stand for, gradients included', async () => {
    const [a, b] = [await quantised.lossAndGradient(batch, LOSS), await widened.lossAndGradient(batch, LOSS)]
    assert.ok(largest(b.gradient) > 0.01)
    assert.ok(distance(a.gradient, b.gradient) <= 1e-5 * largest(b.gradient))
    const scores = { temperature: 1, adapter: true }
    const [p, q] = [await quantised.logprobs(batch, scores), await widened.logprobs(batch, scores)]
    assert.ok(distance(p.logps, q.logps) <= 1e-5)
  })

  it('decodes with 8-bit activations close to the values that its codes stand for', async () => {
    const [a, b] = [await quantised.startDecoding([prompt]), await widened.startDecoding([prompt])]
    // 8-bit activations and an 8-bit head: about a hundredth of the logits' spread.
    assert.ok(distance(a.logits, b.logits) <= 0.05 * largest(b.logits))
    await a.step(Int32Array.of(7))
    await b.step(Int32Array.of(7))
    assert.ok(distance(a.logits, b.logits) <= 0.05 * largest(b.logits))
    a.close()
    b.close()
  })

  it('decodes a row the same alone as among others', async () => {
    const [alone, among] = [
      await quantised.startDecoding([prompt]),
      await quantised.startDecoding([prompt, prompt.map((id) => 2 * id), prompt.map((id) => id + 1)]),
    ]
    const { vocabSize } = quantised.model
    assert.ok(distance(alone.logits, among.logits.slice(0, vocabSize)) <= 1e-5 * largest(alone.logits))
    alone.close()
    among.close()
  })
})
