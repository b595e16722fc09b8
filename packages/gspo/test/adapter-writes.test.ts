/** Writing a PEFT folder where it cannot be written: the error says where and what to do, and nothing is left behind. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { TestContext } from 'node:test'
import { openAdapterFolder, readAdapterFolder, writeAdapterFolder } from '../src/peft/adapter-folder.ts'

const A = 'base_model.model.model.layers.0.mlp.up_proj.lora_A.weight'
const B = 'base_model.model.model.layers.0.mlp.up_proj.lora_B.weight'
const layout = {
  tensors: [
    { name: A, shape: [2, 3] as const, offset: 0 },
    { name: B, shape: [4, 2] as const, offset: 6 },
  ],
  length: 14,
}
const lora = { rank: 2, alpha: 4, useRslora: false, targets: ['up_proj'] as const }
const description = { layout, lora, baseModel: 'demo' }
const values = Float32Array.from({ length: 14 }, (_, i) => i / 4)

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'gspo-adapter-'))
  t.after(() => rm(dir, { recursive: true }))
  return dir
}

describe('writing an adapter folder', () => {
  it('gives the same bytes from one vector and matrix by matrix', async (t) => {
    const dir = await folder(t)
    const [whole, parts] = [join(dir, 'whole'), join(dir, 'parts')]
    await writeAdapterFolder(whole, values, description)
    await writeAdapterFolder(
      parts,
      async (at) => (at === 0 ? values.slice(0, 6) : values.slice(6)),
      description,
    )
    for (const name of ['adapter_model.safetensors', 'adapter_config.json'])
      assert.deepEqual(await readFile(join(parts, name)), await readFile(join(whole, name)))
    const opened = await openAdapterFolder(parts, description)
    assert.deepEqual(
      [...(await opened.values(1)), ...(await opened.values(0))],
      [...values.slice(6), ...values.slice(0, 6)],
    )
    await opened.close()
  })

  it('on a full disk says so, and leaves the adapter that was there', async (t) => {
    const dir = await folder(t)
    await writeAdapterFolder(dir, values, description)
    // Linux's device that answers every write with ENOSPC, in the place of the unfinished weights.
    await symlink('/dev/full', join(dir, `adapter_model.safetensors.${process.pid}.tmp`))
    await assert.rejects(
      writeAdapterFolder(
        dir,
        values.map((value) => -value),
        description,
      ),
      {
        code: 'FILE_UNWRITABLE',
        message: /adapter_model\.safetensors \(ENOSPC\): the disk is full: free space/,
      },
    )
    assert.deepEqual((await readdir(dir)).sort(), ['adapter_config.json', 'adapter_model.safetensors'])
    assert.deepEqual(await readAdapterFolder(dir, description), values)
  })

  it('when the second file cannot be written, the first does not take its place', async (t) => {
    const dir = await folder(t)
    await writeAdapterFolder(dir, values, description)
    await symlink('/dev/full', join(dir, `adapter_config.json.${process.pid}.tmp`))
    await assert.rejects(
      writeAdapterFolder(
        dir,
        values.map((value) => -value),
        description,
      ),
      { code: 'FILE_UNWRITABLE', message: /adapter_config\.json \(ENOSPC\)/ },
    )
    assert.deepEqual(await readAdapterFolder(dir, description), values)
  })

  it('below a file, or where a file stands, names the path and what to do', async (t) => {
    const dir = await folder(t)
    const file = join(dir, 'file')
    await writeFile(file, '')
    await assert.rejects(writeAdapterFolder(join(file, 'adapter'), values, description), {
      code: 'FILE_UNWRITABLE',
      message: /file\/adapter \(ENOTDIR\): a part of the path is a file/,
    })
    await assert.rejects(writeAdapterFolder(file, values, description), {
      code: 'FILE_UNWRITABLE',
      message: /\(EEXIST\): a file stands where the folder should be/,
    })
  })

  it('a folder that it made itself goes again when writing failed', async (t) => {
    const dir = await folder(t)
    const out = join(dir, 'new')
    const failing = async (): Promise<Float32Array> => {
      throw new Error('no values')
    }
    await assert.rejects(writeAdapterFolder(out, failing, description), /no values/)
    assert.deepEqual(await readdir(dir), [])
    await mkdir(out)
    await assert.rejects(writeAdapterFolder(out, failing, description), /no values/)
    assert.deepEqual(await readdir(dir), ['new'])
    assert.deepEqual(await readdir(out), [])
  })
})
