/** The examples of the README run as they stand, from the root of the repository. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../..', import.meta.url))

async function runExample(index: number): Promise<string> {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const example = [...readme.matchAll(/```ts\n(.*?)```/gs)][index]?.[1] ?? ''
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--conditions=gym-source', '--input-type=module-typescript', '--eval', example],
    { cwd: root },
  )
  return stdout
}

describe('README', () => {
  it('signs a delta, reads it, accepts it, and refuses it with one byte changed', async () => {
    assert.equal(
      await runExample(0),
      'w [ 2, 2 ] Float32Array(4) [ 1, -2, 0.5, 0 ]\n' +
        'true format checksum ed25519 ml_dsa_87 binding worker_id\nfalse\n',
    )
  })

  it('seals a frame between two ends that know each other’s peer ids', async () => {
    assert.equal(await runExample(1), 'true hello\n')
  })
})
