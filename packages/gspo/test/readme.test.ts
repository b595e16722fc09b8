/** The example of the README runs as it stands, from the root of the repository. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../..', import.meta.url))

describe('README', () => {
  it('has an example of about 20 lines that runs and prints an accuracy', async () => {
    const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
    const example = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? ''
    assert.ok(example.trimEnd().split('\n').length <= 24)
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--conditions=gym-source', '--input-type=module-typescript', '--eval', example],
      { cwd: root },
    )
    assert.match(stdout, /^10 reward 0\.\d+ tokens\/s \d+$/m)
    assert.match(stdout, /^greedy accuracy 0\.\d+ -> 0\.\d+$/m)
  })
})
