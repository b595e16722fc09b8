/**
 * Reads the configuration: defaults < file < environment < flags. An unknown key anywhere is an error that
 * names the line and the nearest known key; so is a value of the wrong kind.
 */
import { withoutAliases } from '@gym-node/gspo'
import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, resolve } from 'node:path'
import { LineCounter, parse, parseDocument, isMap, isScalar, isSeq, type Document, type Node } from 'yaml'
import type { z } from 'zod'
import { MAX_CONFIG_BYTES } from '../defaults.ts'
import { errnoOf, messageOf, NodeError } from '../errors.ts'
import { explainIssue } from './explain.ts'
import { CONFIG_KEYS, environmentName, flatKeys, suggest, type ConfigKey } from './keys.ts'
import { nodeConfigSchema, PATH_KEYS, type NodeConfig } from './schema.ts'

/** File that is used when it is there and none is named. */
export const CONFIG_FILE_NAME = 'gym.yaml'

/** Variables of the environment that begin with GYM_ and are not configuration keys. */
const OTHER_VARIABLES: readonly string[] = ['GYM_CONFIG', 'GYM_DEBUG', 'GYM_CACHE_DIR']

/** A configuration and where it came from. */
export interface LoadedConfig {
  readonly config: NodeConfig
  /** Absolute path of the file; null when none was read. */
  readonly file: string | null
}

/** Where to look. `flags` are dotted paths with values as given on the command line. */
export interface ConfigSources {
  readonly file: string | null
  readonly env: Readonly<Record<string, string | undefined>>
  readonly flags: ReadonlyMap<string, unknown>
  readonly cwd: string
}

type Place = (path: readonly PropertyKey[]) => string

/** How many wrong values one message names. */
const MAX_SHOWN_ISSUES = 3

/** What a shell puts a path in the place of, and a file or a program that is given it in quotes does not. */
const FOR_SHELLS = /^(~|\$\w|\$\{)/

/** Reads, merges and checks. Throws NodeError CONFIG_*. */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const { raw, file, place } = await loadFromFile(sources)
  dropEmptySections(raw, CONFIG_KEYS)
  if ('train' in raw) raw['train'] = withoutAliases(raw['train'])
  refuseUnknownKeys(raw, CONFIG_KEYS, [], place)
  if (file !== null) resolvePaths(raw, dirname(file), (path) => place(path.split('.')))
  const fromOutside: Record<string, unknown> = {}
  const origins = new Map<string, string>()
  for (const [path, value, name] of environmentValues(sources.env)) {
    setPath(fromOutside, path.split('.'), value)
    origins.set(path, name)
  }
  for (const [path, value] of sources.flags) {
    if (!flatKeys().some((key) => key.path === path))
      throw unknownKey(
        path,
        flatKeys().map((key) => key.path),
        '--set',
      )
    setPath(fromOutside, path.split('.'), value)
    origins.set(path, 'command line')
  }
  resolvePaths(fromOutside, sources.cwd, (path) => origins.get(path) ?? 'command line')
  const merged = mergeObjects(raw, fromOutside)
  if (file === null && merged['train'] === undefined)
    throw new NodeError(
      'CONFIG_NOT_FOUND',
      `there is no ${CONFIG_FILE_NAME} in ${sources.cwd}, and neither a flag nor a variable sets train.model`,
    )
  merged['train'] ??= {} // so that the keys in it which are missing are named, and not the section
  const result = nodeConfigSchema.safeParse(merged)
  if (!result.success)
    throw invalidValue(result.error, merged, (path) => origins.get(path.join('.')) ?? place(path))
  const config = result.data
  const base = file === null ? sources.cwd : dirname(file)
  return { config: { ...config, state_dir: resolve(base, config.state_dir) }, file }
}

/** Only `state_dir`, for commands that talk to a daemon and need no complete configuration. */
export async function loadStateDir(sources: ConfigSources): Promise<string> {
  const flag = sources.flags.get('state_dir')
  if (typeof flag === 'string') return pathFrom(flag, sources.cwd, 'state_dir', 'command line')
  const name = environmentName('state_dir')
  const fromEnv = sources.env[name]
  if (fromEnv !== undefined) return pathFrom(fromEnv, sources.cwd, 'state_dir', name)
  const { raw, file, place } = await loadFromFile(sources)
  const base = file === null ? sources.cwd : dirname(file)
  const given = typeof raw['state_dir'] === 'string' ? raw['state_dir'] : './gym-state'
  return pathFrom(given, base, 'state_dir', place(['state_dir']))
}

async function loadFromFile(
  sources: ConfigSources,
): Promise<{ raw: Record<string, unknown>; file: string | null; place: Place }> {
  const named = sources.file ?? sources.env['GYM_CONFIG'] ?? null
  const path = resolve(sources.cwd, named ?? CONFIG_FILE_NAME)
  if (named === null && !existsSync(path)) return { raw: {}, file: null, place: () => 'configuration' }
  const text = await readConfigText(path)
  const counter = new LineCounter()
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: true })
  const [first] = document.errors
  if (first !== undefined) {
    const line = counter.linePos(first.pos[0]).line
    throw new NodeError('CONFIG_SYNTAX', `${path}:${line}: ${first.message.split('\n')[0] ?? 'not YAML'}`)
  }
  const raw: unknown = document.toJS() ?? {}
  if (!isRecord(raw))
    throw new NodeError(
      'CONFIG_SYNTAX',
      `${path}:1: expected keys and values, found ${Array.isArray(raw) ? 'a list' : typeof raw}`,
    )
  return { raw, file: path, place: (keys) => `${path}:${lineOf(document, counter, keys)}` }
}

async function readConfigText(path: string): Promise<string> {
  try {
    const { size } = await stat(path)
    if (size > MAX_CONFIG_BYTES)
      throw new NodeError(
        'CONFIG_INVALID',
        `${path} is ${size} bytes, a configuration has at most ${MAX_CONFIG_BYTES}`,
      )
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof NodeError) throw error
    if (errnoOf(error) === 'ENOENT')
      throw new NodeError('CONFIG_NOT_FOUND', `no configuration at ${path}`, { cause: error })
    throw new NodeError('CONFIG_NOT_FOUND', `cannot read ${path}: ${messageOf(error)}`, { cause: error })
  }
}

/** 1-based line of a key, of its nearest parent that the file has, or 1. */
function lineOf(document: Document.Parsed, counter: LineCounter, keys: readonly PropertyKey[]): number {
  let node: unknown = document.contents
  let offset = 0
  for (const key of keys) {
    const next = childOf(node, key)
    if (next === null) break
    offset = next.offset
    node = next.value
  }
  return counter.linePos(offset).line
}

function childOf(node: unknown, key: PropertyKey): { offset: number; value: unknown } | null {
  if (isMap(node)) {
    const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key))
    if (pair === undefined || !isScalar(pair.key)) return null
    return { offset: pair.key.range?.[0] ?? 0, value: pair.value }
  }
  if (isSeq(node)) {
    const value = node.items[Number(key)] as Node | undefined
    return value === undefined ? null : { offset: value.range?.[0] ?? 0, value }
  }
  return null
}

/** A section whose keys are all commented out reads as null: it says nothing, so the defaults hold. */
function dropEmptySections(raw: Record<string, unknown>, known: readonly ConfigKey[]): void {
  for (const key of known) {
    const name = lastPart(key.path)
    const inner = raw[name]
    if (key.children.length > 0 && inner === null) Reflect.deleteProperty(raw, name)
    else if (isRecord(inner)) dropEmptySections(inner, key.children)
  }
}

function refuseUnknownKeys(
  value: unknown,
  known: readonly ConfigKey[],
  path: readonly string[],
  place: Place,
): void {
  if (Array.isArray(value)) {
    for (const [index, element] of value.entries())
      refuseUnknownKeys(element, known, [...path, String(index)], place)
    return
  }
  if (!isRecord(value) || known.length === 0) return
  const names = known.map((key) => lastPart(key.path))
  for (const [name, inner] of Object.entries(value)) {
    const key = known[names.indexOf(name)]
    if (key === undefined) throw unknownKey([...path, name].join('.'), names, place([...path, name]))
    refuseUnknownKeys(inner, key.children, [...path, name], place)
  }
}

function unknownKey(path: string, known: readonly string[], place: string): NodeError {
  const near = suggest(known.some((name) => name.includes('.')) ? path : lastPart(path), known)
  const hint = near === null ? `known here: ${known.join(', ')}` : `did you mean "${near}"?`
  return new NodeError('CONFIG_UNKNOWN_KEY', `${place}: unknown key "${path}"; ${hint}`)
}

function invalidValue(error: z.ZodError, merged: unknown, place: Place): NodeError {
  const messages = error.issues
    .slice(0, MAX_SHOWN_ISSUES)
    .map((issue) => `${place(issue.path)}: ${explainIssue(issue, getPath(merged, issue.path))}`)
  return new NodeError('CONFIG_INVALID', messages.join('; '))
}

/** Values from GYM_ variables: [dotted path, value, variable]. Lists take YAML (`[a, b]`) or commas. */
function environmentValues(env: ConfigSources['env']): [string, unknown, string][] {
  const byName = new Map(flatKeys().map((key) => [environmentName(key.path), key]))
  const found: [string, unknown, string][] = []
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith('GYM_') || text === undefined || OTHER_VARIABLES.includes(name)) continue
    const key = byName.get(name)
    if (key === undefined) throw unknownKey(name, [...byName.keys()], 'environment')
    found.push([key.path, parseText(text, key), name])
  }
  return found
}

/** A value written outside a file: YAML, so that numbers, null and lists mean the same as inside one. */
export function parseText(text: string, key: ConfigKey): unknown {
  if (key.takes === 'string') return text
  if (key.takes === 'list of string' && !text.trimStart().startsWith('['))
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
  try {
    return parse(text)
  } catch (error) {
    throw new NodeError('CONFIG_SYNTAX', `${key.path}: ${JSON.stringify(text)} is not a YAML value`, {
      cause: error,
    })
  }
}

/** The key at a dotted path of the command line; an unknown one is an error with a suggestion. */
export function keyAt(path: string): ConfigKey {
  const all = flatKeys()
  const key = all.find((candidate) => candidate.path === path)
  if (key === undefined)
    throw unknownKey(
      path,
      all.map((candidate) => candidate.path),
      '--set',
    )
  return key
}

/** `key=value` pairs, as --set takes them, as a part of a configuration; paths are made absolute from `cwd`. */
export function settingsFrom(pairs: readonly string[], cwd: string): Record<string, unknown> {
  const settings: Record<string, unknown> = {}
  for (const pair of pairs) {
    const [path, value] = parsePair(pair)
    setPath(settings, path.split('.'), value)
  }
  resolvePaths(settings, cwd, () => 'command line')
  return settings
}

/** One `key=value` of --set. Throws NodeError USAGE when it is none, CONFIG_UNKNOWN_KEY or CONFIG_SYNTAX. */
export function parsePair(pair: string): [path: string, value: unknown] {
  const equals = pair.indexOf('=')
  if (equals < 1) throw new NodeError('USAGE', `--set ${pair}: expected key=value`)
  const path = pair.slice(0, equals)
  return [path, parseText(pair.slice(equals + 1), keyAt(path))]
}

/** Makes paths absolute, in place; `place` says where a key of this dotted path was written. */
function resolvePaths(raw: Record<string, unknown>, base: string, place: (path: string) => string): void {
  const absolute = (value: unknown, path: string): unknown => {
    if (Array.isArray(value)) return value.map((element) => absolute(element, path))
    return typeof value === 'string' && value !== '' ? pathFrom(value, base, path, place(path)) : value
  }
  for (const path of PATH_KEYS) changeAt(raw, path.split('.'), (value) => absolute(value, path))
}

/** An absolute path. Throws CONFIG_INVALID on one that only a shell would understand: it would name a folder `~`. */
export function pathFrom(text: string, base: string, key: string, place: string): string {
  if (!FOR_SHELLS.test(text)) return resolve(base, text)
  const meant = /^~(?=\/|$)/.test(text)
    ? `: write ${text.replace('~', homedir())}`
    : ': write the path itself'
  throw new NodeError(
    'CONFIG_INVALID',
    `${place}: ${key} is ${JSON.stringify(text)}, and what begins it means something to a shell only${meant}`,
  )
}

function changeAt(value: unknown, keys: readonly string[], change: (value: unknown) => unknown): void {
  const [key, ...rest] = keys
  if (key === undefined) return
  if (key === '*') {
    if (Array.isArray(value)) for (const element of value) changeAt(element, rest, change)
    return
  }
  if (!isRecord(value) || !(key in value)) return
  if (rest.length > 0) changeAt(value[key], rest, change)
  else value[key] = change(value[key])
}

/** `high` over `low`, section by section; fresh objects. */
export function mergeObjects(
  low: Record<string, unknown>,
  high: Record<string, unknown>,
): Record<string, unknown> {
  const merged = { ...low }
  for (const [key, value] of Object.entries(high)) {
    const under = merged[key]
    merged[key] = isRecord(value) && isRecord(under) ? mergeObjects(under, value) : value
  }
  return merged
}

function setPath(target: Record<string, unknown>, keys: readonly string[], value: unknown): void {
  const [key, ...rest] = keys
  if (key === undefined) return
  if (rest.length === 0) {
    target[key] = value
    return
  }
  const inner = isRecord(target[key]) ? target[key] : {}
  target[key] = inner
  setPath(inner, rest, value)
}

function getPath(value: unknown, keys: readonly PropertyKey[]): unknown {
  let at: unknown = value
  for (const key of keys) {
    if (Array.isArray(at)) at = at[Number(key)]
    else if (isRecord(at)) at = at[String(key)]
    else return undefined
  }
  return at
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
