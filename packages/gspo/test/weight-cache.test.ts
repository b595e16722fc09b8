import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { WEIGHT_CACHE_LEASE_MS, WEIGHT_CACHE_STALE_MS } from '../src/defaults.ts'
import { loadPolicy } from '../src/policy.ts'
import { cachedWeights, weightCacheFolder, type PreparedIndex } from '../src/weights/weight-cache.ts'

const KEY = 'a'.repeat(64)
const INDEX: PreparedIndex = { matrices: { w: { stored: 'F32', offset: 0, byteLength: 4 } } }

describe('the cache of prepared weights', () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gym-test-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))
  beforeEach(async () => {
    for (const name of await readdir(folder)) await rm(path.join(folder, name))
  })

  /** Makes a file of these bytes and counts how often. */
  const maker = (text: string): { make: (file: string) => Promise<PreparedIndex>; made: () => number } => {
    let made = 0
    return {
      make: async (file) => {
        made++
        await writeFile(file, text)
        return INDEX
      },
      made: () => made,
    }
  }
  const get = async (key: string, make: (file: string) => Promise<PreparedIndex>): Promise<string> => {
    const weights = await cachedWeights(folder, key, make)
    assert.deepEqual(weights.index, INDEX)
    weights.release()
    return weights.file
  }

  it('makes a file once and gives it to everybody after, those who ask at the same time too', async () => {
    const { make, made } = maker('weights')
    const files = await Promise.all([get(KEY, make), get(KEY, make), get(KEY, make)])
    files.push(await get(KEY, make))
    assert.equal(made(), 1)
    assert.equal(new Set(files).size, 1)
    assert.equal(await readFile(files[0] ?? '', 'utf8'), 'weights')
    assert.deepEqual((await readdir(folder)).sort(), [`${KEY}.bin`, `${KEY}.json`])
  })

  it('makes a file again that was altered, cut or lost its description', async () => {
    const { make, made } = maker('weights')
    const file = await get(KEY, make)
    for (const damage of [
      () => writeFile(file, 'Weights'),
      () => writeFile(file, 'weigh'),
      () => rm(file),
      () => writeFile(path.join(folder, `${KEY}.json`), '{'),
    ]) {
      const before = made()
      await damage()
      assert.equal(await readFile(await get(KEY, make), 'utf8'), 'weights')
      assert.equal(made(), before + 1)
    }
  })

  it('goes on where a killed process left its lock and half a file, and clears both away', async () => {
    const old = new Date(Date.now() - 2 * WEIGHT_CACHE_STALE_MS)
    for (const name of [`${KEY}.lock`, `${KEY}.bin.1.partial`]) {
      await writeFile(path.join(folder, name), 'half')
      await utimes(path.join(folder, name), old, old)
    }
    await get(KEY, maker('weights').make)
    assert.deepEqual((await readdir(folder)).sort(), [`${KEY}.bin`, `${KEY}.json`])
  })

  it('leaves nothing behind when making fails', async () => {
    await assert.rejects(
      get(KEY, async (file) => {
        await writeFile(file, 'half')
        throw new Error('disk on fire')
      }),
      /disk on fire/,
    )
    assert.deepEqual(await readdir(folder), [])
  })

  it('removes a file without description, not one that was used a moment ago', async () => {
    const other = 'b'.repeat(64)
    const file = await get(other, maker('other').make)
    const orphan = path.join(folder, `${'c'.repeat(64)}.bin`)
    await writeFile(orphan, 'orphan')
    const old = new Date(Date.now() - 2 * WEIGHT_CACHE_LEASE_MS)
    await utimes(orphan, old, old)
    await get(KEY, maker('weights').make)
    assert.equal(await readFile(file, 'utf8'), 'other')
    await assert.rejects(readFile(orphan), { code: 'ENOENT' })
  })

  it('lies where the environment says, else in the user’s cache folder', () => {
    assert.equal(weightCacheFolder({ GYM_CACHE_DIR: '/a', CACHE_DIRECTORY: '/b' }), '/a/weights')
    assert.equal(weightCacheFolder({ CACHE_DIRECTORY: '/b', XDG_CACHE_HOME: '/c' }), '/b/weights')
    assert.equal(weightCacheFolder({ XDG_CACHE_HOME: '/c' }), '/c/gym-node/weights')
    assert.match(weightCacheFolder({}), /\.cache\/gym-node\/weights$/)
  })

  it('a 4-bit model loads from it the second time, with the same logits', async () => {
    const options = {
      modelDir: path.join(import.meta.dirname, '../../../test/golden/models/qwen3-untied'),
      lora: { rank: 2, alpha: 2, targets: ['q_proj'] as const, useRslora: false },
      engine: 'onnx-cpu',
      threads: 1,
      use4bit: true,
      cacheFolder: folder,
    } as const
    const logits = async (): Promise<Float32Array> => {
      const policy = await loadPolicy(options)
      const decoding = await policy.startDecoding([Int32Array.of(5, 6, 7)])
      const seen = decoding.logits.slice()
      decoding.close()
      await policy.close()
      return seen
    }
    const first = await logits()
    const names = await readdir(folder)
    assert.deepEqual(await logits(), first)
    assert.deepEqual(await readdir(folder), names)
    assert.equal(names.length, 2)
  })
})
