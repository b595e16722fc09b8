/** The packages as a user installs them: packed, checked, unpacked beside their dependencies, and run from `dist`. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { temporaryFolder } from './daemon-harness.ts'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PACKAGES = ['wire', 'ring', 'gspo', 'node'] as const

it('builds, packs and runs without sources, compiler or workspace', async (t) => {
  const folder = await temporaryFolder(t)
  const modules = join(folder, 'node_modules')
  await mkdir(join(modules, '@gym-node'), { recursive: true })
  await run(process.execPath, [
    join(ROOT, 'node_modules/typescript/bin/tsc'),
    '-b',
    join(ROOT, 'tsconfig.build.json'),
  ])
  for (const name of PACKAGES) {
    // --ignore-scripts: the build above is what prepack does; npm prints the tarball's name last.
    const { stdout } = await run(
      'npm',
      ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder, '-w', `packages/${name}`],
      { cwd: ROOT },
    )
    await run('tar', ['-xzf', join(folder, stdout.trim().split('\n').at(-1) ?? ''), '-C', folder])
    const { messages, pkg } = await publint({
      pkgDir: join(folder, 'package'),
      level: 'warning',
      pack: false,
    })
    assert.deepEqual(
      messages.map((message) => formatMessage(message, pkg)),
      [],
      `publint of ${name}`,
    )
    const installed = join(modules, name === 'node' ? 'gym-node' : `@gym-node/${name}`)
    await rename(join(folder, 'package'), installed)
    await linkDependencies(join(ROOT, 'packages', name, 'node_modules'), join(installed, 'node_modules'))
  }
  await linkDependencies(join(ROOT, 'node_modules'), modules)

  const bin = join(modules, 'gym-node/bin/gym-node.js')
  const version = await run(process.execPath, [bin, '--version'])
  assert.match(version.stdout, /^gym-node \d+\.\d+\.\d+ /)
  const ring = await run(process.execPath, [
    bin,
    'ring',
    '--nodes',
    '2',
    '--rounds',
    '1',
    '--steps',
    '1',
    '--set',
    'train.prompts_per_step=2',
    '--out',
    join(folder, 'out'),
  ])
  assert.match(ring.stdout, /same adapter in every round/)
  const library =
    'import { VERSION, nodeConfigSchema } from "gym-node"; console.log(VERSION, typeof nodeConfigSchema.parse)'
  const imported = await run(process.execPath, ['--input-type=module', '-e', library], { cwd: folder })
  assert.match(imported.stdout, /^\d+\.\d+\.\d+ function\n$/)
})

/** Links what npm would install from where the workspace has it; none of our own packages. */
async function linkDependencies(from: string, to: string): Promise<void> {
  if (!existsSync(from)) return
  await mkdir(to, { recursive: true })
  for (const name of await readdir(from)) {
    if (name !== '@gym-node' && name !== 'gym-node' && !name.startsWith('.'))
      await symlink(join(from, name), join(to, name))
  }
}
