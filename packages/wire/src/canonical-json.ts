/** Canonical JSON (RFC 8785): one value, one byte string. The `canonicalize` library does it; this checks what it lets by. */
import canonicalize from 'canonicalize'
import { strictUtf8 } from './bytes.ts'
import { MAX_JSON_DEPTH } from './defaults.ts'
import { WireError } from './errors.ts'

/** A value that JSON can hold. Numbers must be finite; strings well-formed UTF-16. */
export type JsonValue =
  null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** RFC 8785 text of `value`. Throws `BAD_JSON` for what JSON cannot hold (NaN, undefined, lone surrogates, cycles). */
export function canonicalJson(value: JsonValue): string {
  requireJson(value, 0)
  try {
    const text = canonicalize(value)
    if (text !== undefined) return text
  } catch (cause) {
    throw new WireError('BAD_JSON', `value has no canonical JSON: ${String(cause)}`, { cause })
  }
  throw new WireError('BAD_JSON', 'value has no canonical JSON: it is undefined')
}

/**
 * Parses JSON bytes that must already be in RFC 8785 form, byte for byte. Throws `BAD_JSON` otherwise: this refuses
 * duplicate keys, which parsers disagree about, and two encodings of one document.
 */
export function parseCanonicalJson(bytes: Uint8Array, what: string): JsonValue {
  const text = strictUtf8(bytes, what)
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue // any result of JSON.parse is a JsonValue
  } catch (cause) {
    throw new WireError('BAD_JSON', `${what} is not JSON: ${(cause as Error).message}`, { cause })
  }
  if (canonicalJson(value) !== text) {
    throw new WireError('BAD_JSON', `${what} is JSON, but not in RFC 8785 canonical form`)
  }
  return value
}

/** The library drops undefined members and calls toJSON, which would sign something other than what was given. */
function requireJson(value: unknown, depth: number): void {
  if (depth > MAX_JSON_DEPTH) {
    throw new WireError('BAD_JSON', `value nests deeper than ${MAX_JSON_DEPTH} levels`)
  }
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return
    throw new WireError('BAD_JSON', `${value} has no JSON form, expected a finite number`)
  }
  if (Array.isArray(value)) {
    for (const item of value as unknown[]) requireJson(item, depth + 1)
    return
  }
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) {
      throw new WireError('BAD_JSON', 'value holds a class instance, expected plain objects only')
    }
    for (const [key, item] of Object.entries(value)) {
      if (key === 'toJSON') throw new WireError('BAD_JSON', 'a member named toJSON is refused')
      requireJson(item, depth + 1)
    }
    return
  }
  throw new WireError('BAD_JSON', `a ${typeof value} has no JSON form`)
}
