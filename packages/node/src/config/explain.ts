/** What is wrong with a value of the configuration, in an operator's words: what stands there and what the key takes. Pure. */
import type { z } from 'zod'
import { flatKeys, suggest, type ConfigKey } from './keys.ts'

/** What of a given value is shown. */
const SHOWN_CHARACTERS = 60

/** Values under such names are never shown. */
const SECRET = /key$|token|password|headers/

/** YAML 1.1 read these as booleans; YAML 1.2 reads them as text. */
const OLD_BOOLEANS: Readonly<Record<string, boolean>> = { yes: true, on: true, no: false, off: false }

const REWARD_PATH = /^train\.rewards\.\d+$/

/** One sentence on an issue; `given` is what stands at its path, undefined when nothing does. */
export function explainIssue(issue: z.core.$ZodIssue, given: unknown): string {
  const path = issue.path.join('.')
  if (given === undefined || given === '') return `${path} is not set`
  const reward = REWARD_PATH.test(path) ? explainReward(path, given) : null
  if (reward !== null) return reward
  const key = keyAtPath(issue.path)
  const isAboutKind = ['invalid_type', 'too_small', 'too_big', 'invalid_value', 'invalid_union'].includes(
    issue.code,
  )
  if (key === null || !isAboutKind) return `${path}${shown(path, given)}: ${issue.message}`
  const about = key.description === '' ? '' : ` (${firstSentence(key.description)})`
  return `${path}${shown(path, given)}, it takes ${key.takes}${about}${hint(key, given)}`
}

/** A reward that is a bare name, or has one that nothing built in has. */
function explainReward(path: string, given: unknown): string | null {
  const known = choicesOf(flatKeys().find((key) => key.path === 'train.rewards.*.name'))
  const inner = typeof given === 'object' && given !== null && 'name' in given ? given.name : given
  if (typeof inner !== 'string') return null
  const near = suggest(inner, known)
  const own = 'a function of your own is { module: ./file.js }'
  if (!known.includes(inner))
    return `${path} is ${JSON.stringify(inner)}; ${near === null ? '' : `did you mean { name: ${near} }? `}Built in: ${known.join(', ')}; ${own}`
  return typeof given === 'string' ? `${path} is ${JSON.stringify(given)}; write { name: ${given} }` : null
}

/** The key that an issue is about: elements of lists are described by the list. */
function keyAtPath(path: readonly PropertyKey[]): ConfigKey | null {
  const names = path.map((part) => (typeof part === 'number' ? '*' : String(part)))
  const keys = flatKeys()
  for (let length = names.length; length > 0; length--) {
    const found = keys.find((key) => key.path === names.slice(0, length).join('.'))
    if (found !== undefined) return found
    if (names[length - 1] !== '*') return null
  }
  return null
}

function shown(path: string, given: unknown): string {
  if (SECRET.test(path)) return ' (not shown)'
  const text = JSON.stringify(given) ?? String(given)
  return ` is ${text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text}`
}

/** What was most likely meant, where that can be told. */
function hint(key: ConfigKey, given: unknown): string {
  if (key.takes.startsWith('list of') && typeof given === 'string' && !SECRET.test(key.path))
    return `: write [${given}]`
  if (typeof given !== 'string') return ''
  const old = OLD_BOOLEANS[given.toLowerCase()]
  if (/boolean/.test(key.takes) && old !== undefined) return `: write ${old}`
  if (/^(integer|number)/.test(key.takes) && given.trim() !== '' && Number.isFinite(Number(given)))
    return ': write it without quotes'
  const near = suggest(given, choicesOf(key))
  return near === null ? '' : `: did you mean "${near}"?`
}

function choicesOf(key: ConfigKey | undefined): string[] {
  return [...(key?.takes ?? '').matchAll(/"([^"]*)"/g)].map(([, choice]) => choice ?? '')
}

function firstSentence(text: string): string {
  return /^.*?[.;](?=\s|$)/.exec(text)?.[0].replace(/[.;]$/, '') ?? text
}
