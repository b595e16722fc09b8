/** Trainer state and PEFT folders as bytes: exact round trips, and refusals that say what does not fit. */
import assert from 'node:assert/strict'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { decodeSafetensors } from '../src/weights/safetensors.ts'
import { decodeState, encodeState } from '../src/checkpoint/state.ts'
import type { TrainerState } from '../src/checkpoint/state.ts'
import type { AdapterLayout, LoraConfig } from '../src/lora.ts'
import { LORA_TARGETS } from '../src/lora.ts'
import { readAdapterFolder, writeAdapterFolder } from '../src/peft/adapter-folder.ts'

const layout: AdapterLayout = {
  tensors: [
    { name: 'a', shape: [2, 3], offset: 0 },
    { name: 'b', shape: [1, 2], offset: 6 },
  ],
  length: 8,
}
const state: TrainerState = {
  adapter: Float32Array.of(0.1, -0, 1e-45, 3.4e38, 5, 6, 7, 8),
  optimizer: {
    firstMoment: new Float32Array(8).fill(1e-8),
    secondMoment: new Float32Array(8).fill(2),
    steps: Int32Array.of(3, 0),
  },
  step: 12,
  updates: 48,
  dataPosition: 2 ** 33,
}

describe('trainer state', () => {
  it('comes back bit for bit', () => assert.deepEqual(decodeState(encodeState(state), layout), state))
  it('gives equal bytes for equal states', () =>
    assert.deepEqual(encodeState(state), encodeState({ ...state, adapter: state.adapter.slice() })))
  it('comes back from an unaligned view', () => {
    const bytes = encodeState(state)
    const shifted = new Uint8Array(bytes.length + 1)
    shifted.set(bytes, 1)
    assert.deepEqual(decodeState(shifted.subarray(1), layout), state)
  })
  it('refuses the state of another adapter, a truncated one and one that is not finite', () => {
    assert.throws(() => decodeState(encodeState(state), { ...layout, length: 9 }), {
      code: 'BAD_STATE',
      message: /8 elements, this adapter has 9/,
    })
    assert.throws(() => decodeState(encodeState(state).subarray(0, 200), layout), { code: 'BAD_SAFETENSORS' })
    assert.throws(
      () => decodeState(encodeState({ ...state, adapter: new Float32Array(8).fill(NaN) }), layout),
      { code: 'BAD_STATE', message: /not finite/ },
    )
    assert.throws(() => decodeState(encodeState({ ...state, step: -1 }), layout), {
      code: 'BAD_STATE',
      message: /step is -1/,
    })
  })
})

/** An adapter that PEFT wrote after 500 steps of TRL. */
const PEFT_FOLDER = fileURLToPath(
  new URL('../../../test/golden/arith/adapter-trl-gspo-500steps', import.meta.url),
)
const lora: LoraConfig = { rank: 16, alpha: 32, targets: [...LORA_TARGETS], useRslora: false }

describe('PEFT adapter folders', async () => {
  const weights = await readFile(join(PEFT_FOLDER, 'adapter_model.safetensors'))
  const stored = decodeSafetensors(weights, 'golden').tensors
  let length = 0
  const tensors = [...stored.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { shape }]) => {
      const [rows = 0, columns = 0] = shape
      const tensor = { name, shape: [rows, columns] as const, offset: length }
      length += rows * columns
      return tensor
    })
  const peftLayout: AdapterLayout = { tensors, length }
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gspo-peft-'))
  })
  after(() => rm(dir, { recursive: true }))

  it("reads PEFT's folder and writes the same tensors back, byte for byte", async () => {
    const values = await readAdapterFolder(PEFT_FOLDER, { layout: peftLayout, lora })
    await writeAdapterFolder(dir, values, { layout: peftLayout, lora, baseModel: 'arith-model' })
    const written = decodeSafetensors(
      await readFile(join(dir, 'adapter_model.safetensors')),
      'written',
    ).tensors
    assert.deepEqual([...written.keys()].sort(), [...stored.keys()].sort())
    for (const [name, tensor] of stored) assert.deepEqual(written.get(name), tensor)
  })
  it('writes the configuration keys that PEFT needs, with the values PEFT wrote', async () => {
    const theirs = JSON.parse(await readFile(join(PEFT_FOLDER, 'adapter_config.json'), 'utf8')) as Record<
      string,
      unknown
    >
    const ours = JSON.parse(await readFile(join(dir, 'adapter_config.json'), 'utf8')) as Record<
      string,
      unknown
    >
    for (const [key, value] of Object.entries(ours)) {
      const expected = theirs[key]
      assert.deepEqual(
        Array.isArray(value) ? value.toSorted() : value,
        Array.isArray(expected) ? expected.toSorted() : expected,
        key,
      )
    }
  })
  it('refuses another rank, other targets and DoRA, and says what to set', async () => {
    await assert.rejects(readAdapterFolder(PEFT_FOLDER, { layout: peftLayout, lora: { ...lora, rank: 8 } }), {
      code: 'BAD_ADAPTER',
      message: /r is 16, expected 8: set lora_rank/,
    })
    await assert.rejects(
      readAdapterFolder(PEFT_FOLDER, { layout: { ...peftLayout, tensors: tensors.slice(1) }, lora }),
      { code: 'BAD_ADAPTER', message: /which this model with these lora_targets does not have/ },
    )
    await copyFile(join(PEFT_FOLDER, 'adapter_model.safetensors'), join(dir, 'adapter_model.safetensors'))
    await writeFile(
      join(dir, 'adapter_config.json'),
      JSON.stringify({ peft_type: 'LORA', r: 16, lora_alpha: 32, use_dora: true }),
    )
    await assert.rejects(readAdapterFolder(dir, { layout: peftLayout, lora }), {
      code: 'BAD_ADAPTER',
      message: /use_dora/,
    })
  })
  it('refuses an adapter of changed base weights, and numbers that are not finite', async () => {
    const writeConfig = (more: object): Promise<void> =>
      writeFile(
        join(dir, 'adapter_config.json'),
        JSON.stringify({ peft_type: 'LORA', r: 16, lora_alpha: 32, ...more }),
      )
    await writeConfig({ init_lora_weights: 'pissa_niter_16' })
    await assert.rejects(readAdapterFolder(dir, { layout: peftLayout, lora }), {
      code: 'BAD_ADAPTER',
      message: /pissa_niter_16.*convert it to a plain LoRA/,
    })
    for (const more of [
      { alora_invocation_tokens: [7] },
      { rank_pattern: { q_proj: 8 } },
      { lora_bias: true },
    ]) {
      await writeConfig(more)
      await assert.rejects(readAdapterFolder(dir, { layout: peftLayout, lora }), {
        code: 'BAD_ADAPTER',
        message: new RegExp(`${Object.keys(more).join()} is .*, which is not supported`),
      })
    }
    await writeConfig({
      init_lora_weights: 'gaussian',
      rank_pattern: {},
      lora_bias: false,
      alora_invocation_tokens: null,
    })
    const values = await readAdapterFolder(dir, { layout: peftLayout, lora })
    values[peftLayout.tensors[1]?.offset ?? 0] = NaN
    await writeAdapterFolder(dir, values, { layout: peftLayout, lora, baseModel: 'arith-model' })
    await assert.rejects(readAdapterFolder(dir, { layout: peftLayout, lora }), {
      code: 'BAD_ADAPTER',
      message: /holds NaN at element 0, expected finite numbers/,
    })
  })
  it('names the missing file', () =>
    assert.rejects(readAdapterFolder(join(dir, 'none'), { layout: peftLayout, lora }), {
      code: 'FILE_MISSING',
    }))
})

describe('a PEFT folder with rank-stabilised scale', () => {
  const lora: LoraConfig = { rank: 8, alpha: 3, targets: ['gate_proj', 'up_proj'], useRslora: true }
  const named = (module: string): AdapterLayout => ({
    tensors: [
      { name: `base_model.model.model.layers.0.mlp.${module}.lora_A.weight`, shape: [8, 1], offset: 0 },
    ],
    length: 8,
  })
  const values = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8)

  it('says it as plain alpha where experts have adapters, which PEFT fuses, and else as it is; both come back', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'gspo-rslora-'))
    try {
      const write = async (layout: AdapterLayout): Promise<{ lora_alpha: number; use_rslora: boolean }> => {
        await writeAdapterFolder(dir, values, { layout, lora, baseModel: 'm' })
        assert.deepEqual(await readAdapterFolder(dir, { layout, lora }), values)
        return JSON.parse(await readFile(join(dir, 'adapter_config.json'), 'utf8')) as never
      }
      const plain = await write(named('gate_proj'))
      assert.deepEqual([plain.lora_alpha, plain.use_rslora], [3, true])
      // alpha / sqrt(8) is the factor: as alpha / 8 it takes an alpha of 3 sqrt(8). PEFT 0.21 with transformers 5.18
      // then gives the logits of this engine to 2e-6, with use_rslora it was 0.08 off.
      const fused = await write(named('experts.0.gate_proj'))
      assert.ok(Math.abs(fused.lora_alpha - 3 * Math.sqrt(8)) < 1e-12)
      assert.equal(fused.use_rslora, false)
      await assert.rejects(
        readAdapterFolder(dir, { layout: named('experts.0.gate_proj'), lora: { ...lora, alpha: 4 } }),
        { code: 'BAD_ADAPTER', message: /lora_alpha/ },
      )
    } finally {
      await rm(dir, { recursive: true })
    }
  })
})
