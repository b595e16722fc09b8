/** Export, apply, import, diff and convert keep the numbers, and refuse what does not fit. */

import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { encodeSafetensors } from '@gym-node/gspo'
import { flatten, adapterSha3 } from '../src/delta-tools/adapter.ts'
import { readDeltaFile } from '../src/delta-tools/delta-file.ts'
import { diffPaths, diffSources } from '../src/delta-tools/diff.ts'
import { convertDelta } from '../src/delta-tools/convert.ts'
import { applyDeltas, importAdapter } from '../src/delta-tools/export-import.ts'
import { readPeftFolder, writePeftFolder } from '../src/delta-tools/peft-folder.ts'
import { NodeError, type NodeErrorCode } from '../src/errors.ts'
import {
  GOLDEN_ADAPTER,
  identityOf,
  smallAdapter,
  sourceOf,
  temporaryFolder,
  writeDifference,
} from './delta-tools-fixtures.ts'

function refusedWith(code: NodeErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof NodeError, String(error))
    assert.equal(error.code, code)
    assert.match(error.message, message)
    return true
  }
}

// Quarters up to 16 and their differences are exact in float32, so sums are too.
const before = smallAdapter((i) => (i % 13) / 4)
const after = smallAdapter((i) => (i % 13) / 4 + (i % 5) - 2)

describe('apply', () => {
  it('of a delta to its base gives the adapter after the round', async (t) => {
    const folder = await temporaryFolder(t)
    const [base, delta, out] = ['base', 'round.delta', 'out'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    await writePeftFolder(base, sourceOf(before), 'demo')
    await writeDifference(delta, before, after, identityOf(1))
    const applied = await applyDeltas({ deltas: [delta], base, out })
    const written = await readPeftFolder(out)
    assert.deepEqual(flatten(written), flatten(after))
    assert.equal(applied.adapterSha3, adapterSha3(flatten(after)))
    assert.deepEqual(written.lora, { ...before.lora, target_modules: ['up_proj', 'down_proj'] })
    assert.equal(written.baseModel, 'demo')
  })

  it('takes the base from a trainer state file as well', async (t) => {
    const folder = await temporaryFolder(t)
    const [state, delta, out] = ['round.state', 'round.delta', 'out'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    const flat = flatten(before)
    await writeFile(state, encodeSafetensors([['adapter', { shape: [flat.length], values: flat }]]))
    await writeDifference(delta, before, after)
    await applyDeltas({ deltas: [delta], base: state, out })
    assert.deepEqual(flatten(await readPeftFolder(out)), flatten(after))
  })

  it('scales and stacks deltas', async (t) => {
    const folder = await temporaryFolder(t)
    const [base, first, second, out] = ['base', '1.delta', '2.delta', 'out'].map((name) =>
      join(folder, name),
    ) as [string, string, string, string]
    await writePeftFolder(base, sourceOf(before), 'demo')
    await writeDifference(first, before, after)
    await writeDifference(second, after, before)
    await applyDeltas({ deltas: [first, second], base, out })
    assert.deepEqual(flatten(await readPeftFolder(out)), flatten(before), 'there and back')
    await applyDeltas({ deltas: [first], base, scale: 0.5, out: `${out}-half` })
    const half = flatten(before).map((value, i) => value + 0.5 * ((flatten(after)[i] ?? 0) - value))
    assert.deepEqual(flatten(await readPeftFolder(`${out}-half`)), half)
  })

  it('refuses another base, a missing one, another layout, and to overwrite', async (t) => {
    const folder = await temporaryFolder(t)
    const [base, other, delta, out] = ['base', 'other', 'round.delta', 'out'].map((name) =>
      join(folder, name),
    ) as [string, string, string, string]
    await writePeftFolder(base, sourceOf(before), 'demo')
    await writePeftFolder(other, sourceOf(after), 'demo')
    await writeDifference(delta, before, after)
    await assert.rejects(
      applyDeltas({ deltas: [delta], base: other, out }),
      refusedWith('BAD_ADAPTER', /was made from adapter [0-9a-f]{64}/),
    )
    await applyDeltas({ deltas: [delta], base: other, out: `${out}-allowed`, allowOtherBase: true })
    await assert.rejects(applyDeltas({ deltas: [delta], out }), refusedWith('USAGE', /--base/))
    await assert.rejects(
      applyDeltas({ deltas: [delta], base: GOLDEN_ADAPTER, out, allowOtherBase: true }),
      refusedWith('BAD_ADAPTER', /do not fit/),
    )
    await assert.rejects(
      applyDeltas({ deltas: [delta], base, out: other }),
      refusedWith('OUTPUT_EXISTS', /exists already/),
    )
    await assert.rejects(
      applyDeltas({ deltas: [delta], base: join(folder, 'nowhere'), out }),
      refusedWith('FILE_NOT_FOUND', /nowhere/),
    )
  })

  it('refuses a signed delta whose bytes were altered after signing', async (t) => {
    const folder = await temporaryFolder(t)
    const [base, delta] = ['base', 'round.delta'].map((name) => join(folder, name)) as [string, string]
    await writePeftFolder(base, sourceOf(before), 'demo')
    await writeDifference(delta, before, after, identityOf(1))
    const bytes = await readFile(delta)
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1)
    await writeFile(delta, bytes)
    const applied = applyDeltas({ deltas: [delta], base, out: join(folder, 'out') })
    await assert.rejects(applied, refusedWith('VERIFY_FAILED', /is signed, but ml_dsa_87 does not hold/))
  })
})

describe('import', () => {
  it("of PEFT's own folder and export again keeps every number", async (t) => {
    const folder = await temporaryFolder(t)
    const [delta, out] = [join(folder, 'adapter.delta'), join(folder, 'out')]
    const baseModel = { id: 'arith-model', sha256: 'cd'.repeat(32) }
    const now = new Date('2026-01-31T12:00:00Z')
    const options = {
      dir: GOLDEN_ADAPTER,
      out: delta,
      job: 'test',
      baseModel,
      dtype: 'f32',
      compression: 'lz4',
      now,
    } as const
    await importAdapter({ ...options, identity: identityOf(2) })
    await applyDeltas({ deltas: [delta], out })
    const [original, back] = [await readPeftFolder(GOLDEN_ADAPTER), await readPeftFolder(out)]
    assert.equal((await diffSources(sourceOf(original), sourceOf(back))).isEqual, true)
    assert.equal(back.lora.alpha, 32)
    assert.equal(back.lora.rank, 16)
    assert.equal(back.lora.target_modules.length, 7)
    const file = await readDeltaFile(delta)
    assert.equal(file.metadata.content, 'adapter')
    assert.equal(file.metadata.state_after, adapterSha3(flatten(original)))
    assert.equal(file.isSigned, true)
  })
})

describe('diff', () => {
  it('agrees with a calculation by hand', async () => {
    const zeros = smallAdapter(() => 0)
    const ones = smallAdapter((i) => (i === 3 ? 3 : i === 20 ? -4 : 0))
    const { total, tensors, isEqual } = await diffSources(sourceOf(zeros), sourceOf(ones))
    assert.equal(isEqual, false)
    assert.equal(total?.elements, 40)
    assert.equal(total?.differenceNorm, 5)
    assert.equal(total?.differing, 2)
    assert.equal(total?.maxAbsolute, 4)
    // Element 20 is the first of up_proj's A (12 + 8 elements of down_proj come before it).
    assert.deepEqual(
      tensors.map(({ differing }) => differing),
      [1, 0, 1, 0],
    )
  })

  it('finds a folder and the delta of the same adapter equal', async (t) => {
    const folder = await temporaryFolder(t)
    const [dir, delta] = [join(folder, 'adapter'), join(folder, 'same.delta')]
    await writePeftFolder(dir, sourceOf(after), 'demo')
    await writeDifference(
      delta,
      smallAdapter(() => 0),
      after,
    )
    assert.deepEqual((await diffPaths(dir, delta)).total?.differing, 0)
    assert.match((await diffPaths(GOLDEN_ADAPTER, dir)).layout ?? '', /only in the first|has shape/)
  })
})

describe('convert', () => {
  it('keeps exact numbers exact, drops the signature and names the original', async (t) => {
    const folder = await temporaryFolder(t)
    const [delta, out] = [join(folder, 'a.delta'), join(folder, 'b.delta')]
    await writeDifference(delta, before, after, identityOf(1))
    const converted = await convertDelta({ input: delta, out, dtype: 'bf16', compression: 'none' })
    assert.deepEqual(
      { error: converted.relativeError, isSigned: converted.isSigned },
      { error: 0, isSigned: false },
    )
    const [original, file] = [await readDeltaFile(delta), await readDeltaFile(out)]
    assert.equal(file.metadata.converted_from, original.bodySha3)
    assert.equal(file.isSigned, false)
    assert.deepEqual([...file.dtypes.values()], ['bf16', 'bf16', 'bf16', 'bf16'])
    assert.deepEqual(flatten(file.adapter), flatten(original.adapter))
  })

  it('may be signed by the worker itself, by nobody else', async (t) => {
    const folder = await temporaryFolder(t)
    const [delta, out] = [join(folder, 'a.delta'), join(folder, 'b.delta')]
    await writeDifference(delta, before, after, identityOf(1))
    const options = { input: delta, out, dtype: 'f16', compression: 'zstd' } as const
    await assert.rejects(
      convertDelta({ ...options, identity: identityOf(2) }),
      refusedWith('USAGE', /only that worker can sign it/),
    )
    assert.equal((await convertDelta({ ...options, identity: identityOf(1) })).isSigned, true)
    assert.equal((await readDeltaFile(out)).isSigned, true)
  })

  it('reports what a lossy type loses', async (t) => {
    const folder = await temporaryFolder(t)
    const [delta, out] = [join(folder, 'a.delta'), join(folder, 'b.delta')]
    await writeDifference(
      delta,
      smallAdapter(() => 0),
      smallAdapter((i) => Math.sin(i)),
    )
    const { relativeError } = await convertDelta({
      input: delta,
      out,
      dtype: 'bitdelta',
      compression: 'zstd',
    })
    assert.ok(relativeError > 0.05 && relativeError < 1, String(relativeError))
  })
})

describe('a PEFT folder', () => {
  it('with one half of a pair, another rank or another kind of adapter is refused', async (t) => {
    const folder = await temporaryFolder(t)
    const dir = join(folder, 'adapter')
    await writePeftFolder(dir, sourceOf(before), 'demo')
    const path = join(dir, 'adapter_config.json')
    const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
    await writeFile(path, JSON.stringify({ ...config, r: 3 }))
    await assert.rejects(readPeftFolder(dir), refusedWith('BAD_ADAPTER', /not of rank 3/))
    await writeFile(path, JSON.stringify({ ...config, use_dora: true }))
    await assert.rejects(readPeftFolder(dir), /use_dora is true/)
    await writeFile(path, '{')
    await assert.rejects(readPeftFolder(dir), refusedWith('BAD_ADAPTER', /adapter_config\.json/))
  })
})
