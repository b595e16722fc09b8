/**
 * The keys of the configuration as plain data, derived from the schema: used to find unknown keys, to suggest
 * known ones, to name environment variables and to write the documentation. Pure.
 */
import { distance } from 'fastest-levenshtein'
import { z } from 'zod'
import { SUGGESTION_SHARE } from '../defaults.ts'
import { nodeConfigSchema } from './schema.ts'

/** One node of the tree of keys. */
export interface ConfigKey {
  /** Dotted path; `*` stands for an element of a list. */
  readonly path: string
  readonly description: string
  /** Default as plain data; undefined when the key must be given or its children have the defaults. */
  readonly fallback: unknown
  /** What it takes, in words: `boolean`, `integer 1..65535`, `"a" | "b"`. */
  readonly takes: string
  readonly children: readonly ConfigKey[]
}

/** The part of JSON Schema that zod writes for our schema. */
const jsonSchema = z.looseObject({
  description: z.string().optional(),
  default: z.unknown().optional(),
  type: z.string().optional(),
  enum: z.array(z.unknown()).optional(),
  const: z.unknown().optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
  exclusiveMinimum: z.number().optional(),
  exclusiveMaximum: z.number().optional(),
  properties: z.record(z.string(), z.unknown()).optional(),
  items: z.unknown().optional(),
  anyOf: z.array(z.unknown()).optional(),
  oneOf: z.array(z.unknown()).optional(),
})
type JsonSchema = z.infer<typeof jsonSchema>

/** All top-level keys with their children. */
export const CONFIG_KEYS: readonly ConfigKey[] = childrenOf(
  jsonSchema.parse(
    z.toJSONSchema(nodeConfigSchema, { io: 'input', unrepresentable: 'any', reused: 'inline' }),
  ),
  '',
)

/** The tree as a flat list, parents before children. */
export function flatKeys(keys: readonly ConfigKey[] = CONFIG_KEYS): ConfigKey[] {
  return keys.flatMap((key) => [key, ...flatKeys(key.children)])
}

/** Name of the environment variable of a key: `GYM_` and the path in capitals, parts joined by `_`. */
export function environmentName(path: string): string {
  return `GYM_${path.replaceAll('.', '_').toUpperCase()}`
}

/** The known word nearest to `word`, or null when none is near. */
export function suggest(word: string, known: readonly string[]): string | null {
  let best: string | null = null
  let least = Math.ceil(word.length * SUGGESTION_SHARE) + 1
  for (const candidate of known) {
    const away = distance(word.toLowerCase(), candidate.toLowerCase())
    if (away < least) {
      least = away
      best = candidate
    }
  }
  return best
}

function childrenOf(schema: JsonSchema, prefix: string): ConfigKey[] {
  const own = Object.entries(schema.properties ?? {}).map(([name, value]) =>
    toKey(jsonSchema.parse(value), prefix + name),
  )
  const alternatives = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((value) =>
    childrenOf(jsonSchema.parse(value), prefix),
  )
  const elements =
    typeof schema.items === 'object' ? childrenOf(jsonSchema.parse(schema.items), `${prefix}*.`) : []
  return withoutRepeats([...own, ...alternatives, ...elements])
}

function toKey(schema: JsonSchema, path: string): ConfigKey {
  const children = childrenOf(schema, `${path}.`)
  return {
    path,
    description: schema.description ?? '',
    fallback: children.length > 0 && schema.type === 'object' ? undefined : schema.default,
    takes: describeType(schema),
    children,
  }
}

function withoutRepeats(keys: readonly ConfigKey[]): ConfigKey[] {
  const seen = new Map<string, ConfigKey>()
  for (const key of keys) if (!seen.has(key.path)) seen.set(key.path, key)
  return [...seen.values()]
}

function describeType(schema: JsonSchema): string {
  const choices = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]
  if (choices.length > 0)
    return [...new Set(choices.map((choice) => describeType(jsonSchema.parse(choice))))].join(' or ')
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' or ')
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.type === 'array')
    return `list of ${typeof schema.items === 'object' ? describeType(jsonSchema.parse(schema.items)) : 'values'}`
  if (schema.type === 'integer' || schema.type === 'number') return `${schema.type}${describeBounds(schema)}`
  return schema.type ?? 'value'
}

function describeBounds(schema: JsonSchema): string {
  const low =
    schema.exclusiveMinimum !== undefined
      ? `> ${schema.exclusiveMinimum}`
      : schema.minimum !== undefined
        ? `>= ${schema.minimum}`
        : ''
  const high =
    schema.exclusiveMaximum !== undefined
      ? `< ${schema.exclusiveMaximum}`
      : schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER
        ? `<= ${schema.maximum}`
        : ''
  const bounds = [low, high].filter(
    (bound) => bound !== '' && !bound.includes(String(Number.MIN_SAFE_INTEGER)),
  )
  return bounds.length > 0 ? ` ${bounds.join(' and ')}` : ''
}
