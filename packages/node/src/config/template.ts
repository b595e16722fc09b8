/** The commented configuration that `gym-node init` writes: every key with its sentence, default and kind. Pure. */
import { stringify } from 'yaml'
import { CONFIG_KEYS, environmentName, type ConfigKey } from './keys.ts'

const WIDTH = 96

/** Values that the file should begin with. */
export interface TemplateValues {
  readonly model: string | null
  readonly dataset: string | null
  /** null leaves the default, a folder beside the file. */
  readonly stateDir?: string | null
}

/** The text of a new gym.yaml. Keys with a default are commented out, so that a later version may better it. */
export function configTemplate(values: TemplateValues): string {
  const given = new Map<string, string | null>([
    ['train.model', values.model],
    ['train.dataset', values.dataset],
  ])
  if (values.stateDir != null) given.set('state_dir', values.stateDir)
  const lines = [
    '# Configuration of gym-node. Defaults < this file < environment (GYM_...) < flags.',
    '# A key that is commented out has the value shown. Paths are relative to this file.',
    '',
  ]
  for (const key of CONFIG_KEYS) lines.push(...render(key, 0, given), '')
  return lines.join('\n')
}

function render(key: ConfigKey, depth: number, given: ReadonlyMap<string, string | null>): string[] {
  const indent = '  '.repeat(depth)
  const name = key.path.slice(key.path.lastIndexOf('.') + 1)
  const about = wrap(key.description, WIDTH - indent.length).map((line) => `${indent}# ${line}`)
  if (isSection(key))
    return [
      ...about,
      `${indent}${name}:`,
      ...key.children.flatMap((child) => render(child, depth + 1, given)),
    ]
  const takes = `${indent}#   ${key.takes}; ${environmentName(key.path)}`
  if (given.has(key.path)) {
    const value = given.get(key.path) ?? null
    const text = value === null ? `'' # required` : stringify(value, { lineWidth: 0 }).trimEnd()
    return [...about, takes, `${indent}${name}: ${text}`]
  }
  const shown =
    key.fallback === undefined
      ? ''
      : stringify(key.fallback, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd()
  return [...about, takes, `${indent}# ${name}: ${shown}`.trimEnd()]
}

/** A section has keys of its own in the file; a list of objects is written as one value. */
function isSection(key: ConfigKey): boolean {
  return key.children.length > 0 && key.children.every((child) => !child.path.includes('*'))
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ').filter((part) => part !== '')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return line === '' ? lines : [...lines, line]
}
