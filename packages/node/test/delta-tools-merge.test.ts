/** Merged weights are PEFT's, and a merged model answers as the model with its adapter does. */

import assert from 'node:assert/strict'
import { copyFile, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { decodeSafetensors, loadPolicy, type Policy, type TensorValue } from '@gym-node/gspo'
import { flatten } from '../src/delta-tools/adapter.ts'
import { mergeAdapter } from '../src/delta-tools/merge.ts'
import { readPeftFolder, writePeftFolder } from '../src/delta-tools/peft-folder.ts'
import { addToStored, toBf16 } from '../src/delta-tools/stored-floats.ts'
import { NodeError } from '../src/errors.ts'
import {
  GOLDEN_ADAPTER,
  GOLDEN_MODEL,
  ROOT,
  smallAdapter,
  sourceOf,
  temporaryFolder,
} from './delta-tools-fixtures.ts'

interface RecordedTensor {
  shape: number[]
  norm: number
  difference_norm: number
  first: number[]
  last: number[]
}

const recorded = JSON.parse(
  await readFile(new URL('./vectors/merge/merged.json', import.meta.url), 'utf8'),
) as Record<string, Record<string, RecordedTensor>>

async function readModel(dir: string): Promise<Map<string, TensorValue>> {
  const all = new Map<string, TensorValue>()
  for (const name of await readdir(dir)) {
    if (!name.endsWith('.safetensors')) continue
    for (const [key, value] of decodeSafetensors(await readFile(join(dir, name))).tensors) all.set(key, value)
  }
  return all
}

function norm(values: ArrayLike<number>, minus: ArrayLike<number> = []): number {
  let squares = 0
  for (let i = 0; i < values.length; i += 1) squares += ((values[i] ?? 0) - (minus[i] ?? 0)) ** 2
  return Math.sqrt(squares)
}

describe('merging', () => {
  const cases: readonly [name: string, model: string, adapter: string][] = [
    [
      'qwen3-tied/qv',
      join(ROOT, 'test/golden/models/qwen3-tied'),
      join(ROOT, 'test/golden/rl/qwen3-tied/qv/adapter'),
    ],
    [
      'qwen3-tied/all',
      join(ROOT, 'test/golden/models/qwen3-tied'),
      join(ROOT, 'test/golden/rl/qwen3-tied/all/adapter'),
    ],
    ['arith', GOLDEN_MODEL, GOLDEN_ADAPTER],
  ]
  for (const [name, model, adapter] of cases) {
    it(`${name} gives what PEFT's merge_and_unload gave`, async (t) => {
      const out = join(await temporaryFolder(t), 'merged')
      const { merged } = await mergeAdapter({ model, adapter, out })
      const [before, after] = [await readModel(model), await readModel(out)]
      assert.deepEqual([...after.keys()], [...before.keys()])
      const wanted = recorded[name] ?? {}
      assert.equal(merged, Object.keys(wanted).length)
      for (const [key, tensor] of after) {
        const original = before.get(key)?.values ?? []
        const expected = wanted[key]
        if (expected === undefined) {
          assert.equal(norm(tensor.values, original), 0, `${key} has no LoRA`)
          continue
        }
        // The tolerance is float32's: PEFT computes B A in single precision, here it is double and rounded once.
        const close = (seen: number, wantedValue: number, what: string): void =>
          assert.ok(
            Math.abs(seen - wantedValue) <= 1e-6 * Math.max(1, Math.abs(wantedValue)),
            `${key} ${what}: ${seen}, PEFT has ${wantedValue}`,
          )
        assert.deepEqual(tensor.shape, expected.shape)
        close(norm(tensor.values), expected.norm, 'norm')
        close(norm(tensor.values, original), expected.difference_norm, 'norm of the change')
        expected.first.forEach((value, i) => close(tensor.values[i] ?? NaN, value, `element ${i}`))
        expected.last.forEach((value, i) =>
          close(tensor.values[tensor.values.length - 4 + i] ?? NaN, value, `element -${4 - i}`),
        )
      }
    })
  }

  it('makes a model that answers as base and adapter do, with its tokenizer beside it', async (t) => {
    const out = join(await temporaryFolder(t), 'merged')
    await mergeAdapter({ model: GOLDEN_MODEL, adapter: GOLDEN_ADAPTER, out })
    assert.ok((await readdir(out)).includes('tokenizer.json'))
    const adapter = await readPeftFolder(GOLDEN_ADAPTER)
    const lora = {
      rank: 16,
      alpha: 32,
      useRslora: false,
      targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
    } as const
    const logpsOf = async (
      modelDir: string,
      values: (policy: Policy) => Float32Array,
    ): Promise<Float32Array> => {
      const policy = await loadPolicy({ modelDir, lora, engine: 'onnx-cpu', threads: 1 })
      try {
        policy.setAdapter(values(policy))
        const batch = {
          rows: 1,
          promptLength: 6,
          completionLength: 3,
          promptIds: Int32Array.of(49, 50, 43, 51, 52, 61),
          promptMask: new Int32Array(6).fill(1),
          completionIds: Int32Array.of(52, 54, 258),
          completionMask: new Int32Array(3).fill(1),
        }
        return (await policy.logprobs(batch, { temperature: 1, adapter: true })).logps
      } finally {
        await policy.close()
      }
    }
    const withAdapter = await logpsOf(GOLDEN_MODEL, () => flatten(adapter))
    const merged = await logpsOf(out, (policy) => new Float32Array(policy.adapterLayout.length))
    const base = await logpsOf(GOLDEN_MODEL, (policy) => new Float32Array(policy.adapterLayout.length))
    assert.ok(norm(withAdapter, base) > 0.01, 'the adapter matters')
    assert.ok(
      norm(withAdapter, merged) < 1e-4,
      `merged [${merged.join()}], with adapter [${withAdapter.join()}]`,
    )
  })

  it('of an adapter for another model names the first layer that does not fit, and leaves nothing behind', async (t) => {
    const folder = await temporaryFolder(t)
    const adapter = join(folder, 'adapter')
    await writePeftFolder(adapter, sourceOf(smallAdapter(() => 1)), 'demo')
    const out = join(folder, 'merged')
    await assert.rejects(
      mergeAdapter({ model: GOLDEN_MODEL, adapter, out }),
      (error) =>
        error instanceof NodeError &&
        error.code === 'BAD_ADAPTER' &&
        /down_proj\.weight is \[/.test(error.message),
    )
    assert.deepEqual(await readdir(folder), ['adapter'])
  })

  it('keeps shards and index as they are', async (t) => {
    const folder = await temporaryFolder(t)
    const source = join(ROOT, 'test/golden/models/qwen2')
    const model = join(folder, 'model')
    await mkdir(model)
    for (const name of await readdir(source)) {
      if (!name.startsWith('golden')) await copyFile(join(source, name), join(model, name))
    }
    const before = await readModel(model)
    const [name, weight] = [...before].find(([key]) => key.endsWith('layers.0.mlp.up_proj.weight')) ?? [
      '',
      undefined,
    ]
    const [rows = 0, columns = 0] = weight?.shape ?? []
    const prefix = `base_model.model.${name.slice(0, -'.weight'.length)}`
    const matrices = [
      { name: `${prefix}.lora_A.weight`, shape: [1, columns], values: new Float32Array(columns).fill(1) },
      { name: `${prefix}.lora_B.weight`, shape: [rows, 1], values: new Float32Array(rows).fill(0.5) },
    ]
    const adapter = join(folder, 'adapter')
    await writePeftFolder(
      adapter,
      sourceOf({ matrices, lora: { rank: 1, alpha: 2, use_rslora: false, target_modules: ['up_proj'] } }),
      'demo',
    )
    const out = join(folder, 'merged')
    assert.equal((await mergeAdapter({ model, adapter, out })).merged, 1)
    assert.deepEqual((await readdir(out)).sort(), (await readdir(model)).sort())
    const after = (await readModel(out)).get(name)
    // s B A = 2 * 0.5 * 1 = 1 everywhere.
    assert.deepEqual(
      after?.values,
      Float32Array.from(weight?.values ?? [], (value) => Math.fround(value + 1)),
    )
  })
})

describe('stored numbers', () => {
  it('are rounded to nearest even in bfloat16', () => {
    // bf16 has 8 bits: between 1 (0x3f80) and 1.0078125 (0x3f81) lies 1.00390625, which goes to the even one.
    assert.equal(toBf16(1.00390625), 0x3f80)
    assert.equal(toBf16(1.01171875), 0x3f82)
    assert.equal(toBf16(1.004), 0x3f81)
    assert.equal(toBf16(-2), 0xc000)
  })

  it('are added in the type they are stored in', () => {
    const f16 = new Uint8Array(2)
    new DataView(f16.buffer).setUint16(0, 0x3c00, true) // 1
    const sum = addToStored(f16, 'F16', Float64Array.of(0.5), 'w')
    assert.equal(new DataView(sum.buffer).getUint16(0, true), 0x3e00) // 1.5
    assert.throws(() => addToStored(f16, 'F16', Float64Array.of(70000), 'w'), /merging w gives Infinity/)
  })
})
