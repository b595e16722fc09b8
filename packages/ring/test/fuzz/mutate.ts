/** Makes wrong inputs out of right ones: bytes and JSON values with a few seeded changes. */
import type { Random } from '../sim/random.ts'

/** Numbers that decoders get wrong. */
const ODD_NUMBERS = [
  0,
  -0,
  1,
  -1,
  0.5,
  255,
  256,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  1e308,
  -1e308,
]
const ODD_STRINGS = [
  '',
  '__proto__',
  'constructor',
  '\u0000',
  '\ud800',
  'a'.repeat(129),
  '0'.repeat(4096),
  'ff',
  'FF',
]

function pick<T>(random: Random, values: readonly T[]): T {
  const value = values[random.below(values.length)]
  if (value === undefined) throw new Error('nothing to pick from')
  return value
}

/** Some bytes of any kind. */
export function anyBytes(random: Random, maxLength: number): Uint8Array {
  return Uint8Array.from({ length: random.below(maxLength + 1) }, () => random.below(256))
}

/** The bytes with one to three changes: flipped, cut, repeated, inserted, a length field made odd. */
export function mutateBytes(random: Random, bytes: Uint8Array): Uint8Array {
  let out = new Uint8Array(bytes)
  const changes = 1 + random.below(3)
  for (let i = 0; i < changes; i++) {
    const at = random.below(out.byteLength + 1)
    switch (random.below(6)) {
      case 0:
        if (at < out.byteLength) out[at] = (out[at] ?? 0) ^ (1 << random.below(8))
        break
      case 1:
        out = out.slice(0, at)
        break
      case 2:
        out = joined(out.slice(0, at), anyBytes(random, 40), out.slice(at))
        break
      case 3:
        out = joined(out, out.slice(at, at + random.below(64)))
        break
      case 4:
        out = joined(out.slice(0, at), out.slice(at + random.below(16)))
        break
      case 5:
        if (at + 4 <= out.byteLength) {
          const odd = pick(random, [0, 1, 0x7fffffff, 0xffffffff, 65_536, 262_144, 262_145])
          new DataView(out.buffer).setUint32(at, odd, random.chance(0.5))
        }
        break
    }
  }
  return out
}

/** The value with one place changed: an odd number, string or type, a key gone or too many, far too much of something. */
export function mutateJson(random: Random, value: unknown): unknown {
  if (typeof value === 'object' && value !== null && random.chance(0.85)) {
    if (Array.isArray(value)) return mutateArray(random, value)
    const entries = Object.entries(value)
    if (entries.length > 0) return mutateObject(random, entries)
  }
  switch (random.below(6)) {
    case 0:
      return pick(random, ODD_NUMBERS)
    case 1:
      return pick(random, ODD_STRINGS)
    case 2:
      return null
    case 3:
      return random.chance(0.5)
    case 4:
      return { [pick(random, ODD_STRINGS)]: pick(random, ODD_NUMBERS) }
    default:
      return nested(random.below(2000))
  }
}

function mutateArray(random: Random, value: readonly unknown[]): unknown[] {
  const at = random.below(value.length + 1)
  if (random.chance(0.1)) return Array.from({ length: 2000 }, () => value[0] ?? 0)
  if (random.chance(0.2)) return value.toSpliced(at, 1)
  if (at === value.length) return [...value, pick(random, ODD_NUMBERS)]
  return value.with(at, mutateJson(random, value[at]))
}

function mutateObject(random: Random, entries: readonly [string, unknown][]): object {
  const [key, old] = pick(random, entries)
  if (random.chance(0.1)) return Object.fromEntries(entries.filter(([name]) => name !== key))
  if (random.chance(0.1)) return Object.fromEntries([...entries, [pick(random, ODD_STRINGS), old]])
  return Object.fromEntries(entries.map(([name, v]) => [name, name === key ? mutateJson(random, v) : v]))
}

/** Arrays inside arrays: what recursion does not survive. */
function nested(depth: number): unknown {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = [value]
  return value
}

/** Cuts bytes into pieces as a network might. */
export function pieces(random: Random, bytes: Uint8Array): Uint8Array[] {
  const out: Uint8Array[] = []
  const most = 1 + random.below(random.chance(0.3) ? 4 : 4096)
  for (let at = 0; at < bytes.byteLength;) {
    const next = Math.min(bytes.byteLength, at + 1 + random.below(most))
    out.push(bytes.slice(at, next))
    at = next
  }
  return out
}

/** All bytes in one. */
export function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}
