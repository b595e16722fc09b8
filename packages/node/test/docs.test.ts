/** The documentation says what the code does: generated pages are current, and every command in it exists. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import type { Command } from 'commander'
import { format } from 'prettier'
import { commandsOf, reasonNotToRun } from '../../../test/docs/commands.ts'
import { buildProgram } from '../src/cli/main.ts'
import { generatedPages } from './docs-pages.ts'

const DOCS = new URL('../../../docs/', import.meta.url)

describe('generated pages', () => {
  for (const [name, text] of generatedPages()) {
    it(`${name} is current (npm run docs writes it)`, async () => {
      assert.equal(
        await readFile(new URL(name, DOCS), 'utf8'),
        await format(text, { parser: 'markdown', printWidth: 110 }),
      )
    })
  }
})

describe('commands in the documentation', () => {
  it('exist, with every option that is shown', async () => {
    const program = buildProgram({ exitCode: 0 })
    const pages = (await readdir(DOCS))
      .filter((name) => name.endsWith('.md'))
      .map((name) => new URL(name, DOCS))
    let checked = 0
    for (const page of [...pages, new URL('../../../README.md', import.meta.url)]) {
      for (const line of commandLines(await readFile(page, 'utf8'))) {
        check(program, line, page.pathname)
        checked++
      }
    }
    assert.ok(checked > 20, `only ${checked} commands were found`)
  })

  it('are each run by npm run test:docs, or have a reason why not', async () => {
    const pages = (await readdir(DOCS))
      .filter((name) => name.endsWith('.md'))
      .map((name) => new URL(name, DOCS))
    for (const page of [...pages, new URL('../../../README.md', import.meta.url)])
      for (const { line } of commandsOf(page.pathname, await readFile(page, 'utf8')))
        assert.ok(
          line.startsWith('gym-node ') || reasonNotToRun(line) !== null,
          `${page.pathname}: nothing runs "${line}" (test/docs/commands.ts)`,
        )
  })
})

/** Lines of shell blocks that run gym-node, without comments and what follows a pipe. */
function commandLines(text: string): string[] {
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) =>
    (block ?? '').replaceAll('\\\n', ' '),
  )
  return blocks
    .flatMap((block) => block.split('\n'))
    .map(
      (line) =>
        line
          .replace(/\s#.*$/, '')
          .split(/[|>]/)[0]
          ?.trim() ?? '',
    )
    .flatMap((line) => /^(?:npx\s+)?(gym-node\s.*)$/.exec(line)?.[1] ?? [])
}

function check(program: Command, line: string, where: string): void {
  const words = line.split(/\s+/).slice(1)
  let command = program
  for (const word of words) {
    const next = command.commands.find((child) => child.name() === word)
    if (next === undefined) break
    command = next
  }
  assert.ok(
    command !== program || words.every((word) => word.startsWith('-')),
    `${where}: there is no command in "${line}"`,
  )
  for (const option of words.filter((word) => /^--?[a-z]/.test(word)).map((word) => word.split('=')[0])) {
    const known =
      command.options.some(({ long, short }) => long === option || short === option) ||
      ['--help', '--version', '--debug'].includes(option ?? '')
    assert.ok(known, `${where}: "${line}" has the option ${option ?? ''}, which ${command.name()} has not`)
  }
}
