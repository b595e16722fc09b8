/** The example of the README runs as it stands, from the root of the repository. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../..', import.meta.url))

describe('README', () => {
  it('has an example in which three members agree on the mean', async () => {
    const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
    const example = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? ''
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--conditions=gym-source', '--input-type=module-typescript', '--eval', example],
      { cwd: root },
    )
    // Weights 1, 2, 3 and values 0, r, 2r: the mean is (0 + 2r + 6r) / 6.
    const lines = ['1.333', '2.667', '4.000'].map((mean, i) => `round ${i + 1}: 3 members, mean ${mean}`)
    assert.equal(stdout, `${lines.join('\n')}\nequal true\n`)
  })
})
