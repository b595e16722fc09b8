/** The metadata of a DELTA file: who made it, in which round, from what to what. Checked on writing and on reading. */
import type { Attestation } from './attestation/types.ts'
import type { JsonValue } from './canonical-json.ts'
import { WireError } from './errors.ts'

/** Metadata, snake_case as in the file. Members that this version does not know are kept and signed, and ignored. */
export interface DeltaMetadata {
  /** libp2p peer id of the worker's Ed25519 key. */
  readonly worker_id: string
  readonly job: string
  /** Id of the ring whose view the round ran in. */
  readonly view: string
  /** Epoch of that view. */
  readonly epoch: number
  readonly round: number
  /** Counts this worker's deltas, from 0, across rounds and restarts. */
  readonly sequence: number
  /** First and last local step inside this delta, both included. */
  readonly step_first: number
  readonly step_last: number
  /** RFC 3339, UTC, e.g. `2026-01-31T12:00:00.000Z`. */
  readonly timestamp: string
  /** Mean over the steps; null when there was none. */
  readonly loss: number | null
  readonly reward_mean: number | null
  /** The frozen model: a name for people, and SHA-256 (hex) over its weight files. */
  readonly base_model: { readonly id: string; readonly sha256: string }
  /** SHA3-256 (hex) of the adapter's float32 bytes before and after the local steps. */
  readonly state_before: string
  readonly state_after: string
  /** SHA3-256 (hex) of the round's trace file, null when none was kept. */
  readonly trace_sha3_256: string | null
  readonly attestation: Attestation
  /** Base64 of the encoded key binding; null in an unsigned file. */
  readonly binding: string | null
  /** What the tensors are: the adapter after minus before (also when absent), or the whole adapter. */
  readonly content?: 'difference' | 'adapter'
  /** The adapter's configuration, enough to write a PEFT folder. */
  readonly lora?: DeltaLora
  /** SHA3-256 (hex) of the body this file was converted from, when it is a conversion. */
  readonly converted_from?: string
  /**
   * Error feedback, where the tensors are lossy and what they lose is sent later: SHA3-256 (hex) of the float32 bytes
   * of what earlier deltas had left over, added to this one before it was rounded (null: nothing), and of what is left
   * over now.
   */
  readonly residual?: { readonly before: string | null; readonly after: string }
  /** Anything else. */
  readonly extra?: { readonly [key: string]: JsonValue }
}

/** LoRA configuration, names as in PEFT. */
export interface DeltaLora {
  readonly rank: number
  readonly alpha: number
  readonly use_rslora: boolean
  readonly target_modules: readonly string[]
}

type Check = (value: JsonValue) => boolean

const MAX_TEXT_LENGTH = 1024
const isText: Check = (v) => typeof v === 'string' && v.length > 0 && v.length <= MAX_TEXT_LENGTH
const isCount: Check = (v) => Number.isSafeInteger(v) && (v as number) >= 0
const isNumberOrNull: Check = (v) => v === null || typeof v === 'number'
const isHash: Check = (v) => typeof v === 'string' && /^[0-9a-f]{64}$/.test(v)
const isObject = (v: JsonValue | undefined): v is { readonly [key: string]: JsonValue } =>
  typeof v === 'object' && v !== null && !Array.isArray(v)
const isBase64: Check = (v) => typeof v === 'string' && Buffer.from(v, 'base64').toString('base64') === v
/** Form and calendar: `Date` turns 31 February into March, which then prints as another day. */
const isTimestamp: Check = (v) => {
  const day =
    typeof v === 'string' ? /^(\d{4}-\d\d-\d\d)T\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.exec(v)?.[1] : undefined
  const time = day === undefined ? NaN : Date.parse(v as string)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(day ?? '-')
}

const isLora: Check = (v) =>
  isObject(v) &&
  isCount(v['rank'] ?? null) &&
  typeof v['alpha'] === 'number' &&
  typeof v['use_rslora'] === 'boolean' &&
  Array.isArray(v['target_modules']) &&
  v['target_modules'].every(isText)

const isResidual: Check = (v) =>
  isObject(v) && (v['before'] === null || isHash(v['before'] ?? null)) && isHash(v['after'] ?? null)

type OptionalMember = 'content' | 'lora' | 'converted_from' | 'residual' | 'extra'

/** What a member that may be absent must be when it is there. */
const OPTIONAL_MEMBERS: Record<OptionalMember, readonly [Check, string]> = {
  content: [(v) => v === 'difference' || v === 'adapter', "'difference' or 'adapter'"],
  lora: [isLora, '{ rank, alpha, use_rslora, target_modules }'],
  converted_from: [isHash, '64 lower-case hex digits'],
  residual: [isResidual, '{ before: hash or null, after: hash }'],
  extra: [isObject, 'an object'],
}

/** What each member must be, with the words for the message. */
const MEMBERS: Record<Exclude<keyof DeltaMetadata, OptionalMember>, readonly [Check, string]> = {
  worker_id: [isText, 'a peer id'],
  job: [isText, 'a text of 1 to 1024 characters'],
  view: [isText, 'a text of 1 to 1024 characters'],
  epoch: [isCount, 'an integer from 0 to 2^53-1'],
  round: [isCount, 'an integer from 0 to 2^53-1'],
  sequence: [isCount, 'an integer from 0 to 2^53-1'],
  step_first: [isCount, 'an integer from 0 to 2^53-1'],
  step_last: [isCount, 'an integer from 0 to 2^53-1'],
  timestamp: [isTimestamp, 'an RFC 3339 time in UTC, like 2026-01-31T12:00:00Z'],
  loss: [isNumberOrNull, 'a number or null'],
  reward_mean: [isNumberOrNull, 'a number or null'],
  base_model: [
    (v) => isObject(v) && isText(v['id'] ?? null) && isHash(v['sha256'] ?? null),
    '{ id, sha256 (hex) }',
  ],
  state_before: [isHash, '64 lower-case hex digits'],
  state_after: [isHash, '64 lower-case hex digits'],
  trace_sha3_256: [(v) => v === null || isHash(v), '64 lower-case hex digits or null'],
  attestation: [(v) => isObject(v) && isText(v['type'] ?? null), 'an object with a type'],
  binding: [(v) => v === null || isBase64(v), 'base64 or null'],
}

/** Checks the form of metadata that came from outside. Throws `BAD_METADATA` naming the member and what was expected. */
export function checkDeltaMetadata(value: JsonValue): DeltaMetadata {
  if (!isObject(value)) throw new WireError('BAD_METADATA', 'metadata is not a JSON object')
  for (const [member, [isValid, expected]] of Object.entries(MEMBERS)) {
    const seen = Object.hasOwn(value, member) ? value[member] : undefined
    if (seen === undefined)
      throw new WireError('BAD_METADATA', `metadata lacks ${member}, expected ${expected}`)
    requireValid(member, seen, isValid, expected)
  }
  for (const [member, [isValid, expected]] of Object.entries(OPTIONAL_MEMBERS)) {
    const seen = Object.hasOwn(value, member) ? value[member] : undefined
    if (seen !== undefined) requireValid(member, seen, isValid, expected)
  }
  const metadata = value as unknown as DeltaMetadata // every member was checked above
  if (metadata.step_first > metadata.step_last) {
    throw new WireError(
      'BAD_METADATA',
      `step_first ${metadata.step_first} is after step_last ${metadata.step_last}`,
    )
  }
  return metadata
}

function requireValid(member: string, seen: JsonValue, isValid: Check, expected: string): void {
  if (isValid(seen)) return
  throw new WireError('BAD_METADATA', `metadata ${member} is ${preview(seen)}, expected ${expected}`)
}

function preview(value: JsonValue): string {
  const text = JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
