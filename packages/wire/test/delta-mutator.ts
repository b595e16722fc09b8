/**
 * Structure-aware mutation of DELTA files for the fuzzer: it knows where lengths, counts, names, codes and data lie,
 * breaks them one or several at a time, and often makes the checksum right again so that the damage is looked at.
 */
import { zstdCompressSync } from 'node:zlib'
import { compressFrameSync } from 'lz4-napi'
import { sha3_256 } from '@gym-node/wire'

/** A field of a well-formed file. */
export interface Field {
  readonly kind: 'u8' | 'u16' | 'u32' | 'u64' | 'bytes'
  readonly what: string
  readonly offset: number
  readonly size: number
}

/** A reproducible source of choices (mulberry32). */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** An integer from 0 to `limit - 1`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]
  }
}

/** Where everything lies in a well-formed file. Written apart from the decoder, so that it cannot share its mistakes. */
export function fieldsOf(file: Uint8Array): { fields: Field[]; tensors: Field[]; bodyEnd: number } {
  const view = Buffer.from(file.buffer, file.byteOffset, file.length)
  const fields: Field[] = []
  const tensors: Field[] = []
  let offset = 0
  const take = (kind: Field['kind'], what: string, size: number): number => {
    fields.push({ kind, what, offset, size })
    offset += size
    return offset - size
  }
  take('bytes', 'magic', 5)
  for (const what of ['version', 'compression', 'flags']) take('u8', what, 1)
  take('bytes', 'checksum', 16)
  take('bytes', 'metadata', view.readUInt32LE(take('u32', 'metadata length', 4)))
  const count = view.readUInt32LE(take('u32', 'tensor count', 4))
  for (let t = 0; t < count; t++) {
    const start = offset
    take('bytes', 'name', view.readUInt32LE(take('u32', 'name length', 4)))
    take('u8', 'dtype', 1)
    const rank = view.readUInt8(take('u8', 'rank', 1))
    for (let d = 0; d < rank; d++) take('u64', 'dimension', 8)
    take('bytes', 'data', Number(view.readBigUInt64LE(take('u64', 'data length', 8))))
    tensors.push({ kind: 'bytes', what: 'tensor', offset: start, size: offset - start })
  }
  const bodyEnd = offset
  if (view.readUInt8(7) === 1) {
    const signatures = view.readUInt16LE(take('u16', 'signature count', 2))
    for (let s = 0; s < signatures; s++) {
      take('u8', 'scheme', 1)
      for (const what of ['public key', 'signature'])
        take('bytes', what, view.readUInt16LE(take('u16', `${what} length`, 2)))
    }
  }
  return { fields, tensors, bodyEnd }
}

const INTERESTING = [
  0n,
  1n,
  2n,
  7n,
  127n,
  128n,
  255n,
  256n,
  65535n,
  65536n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 62n,
  2n ** 63n,
  2n ** 64n - 1n,
]
const BAD_FLOATS = [0x7fc00000, 0x7f800000, 0xff800000, 0x80000000, 0x7f7fffff, 0x00000001]
const BITES_OF_JSON = [
  'NaN',
  '1e999',
  '"',
  '{',
  '}',
  ',',
  '\\ud800',
  'null',
  '-0',
  ' ',
  '\u0000',
  '"a":1,',
  '[[[[[[[[',
]
const ZEROS = new Uint8Array(1 << 20)
const BOMBS = [
  zstdCompressSync(ZEROS),
  zstdCompressSync(ZEROS.subarray(0, 1000)),
  compressFrameSync(Buffer.from(ZEROS.buffer)),
  compressFrameSync(Buffer.from(ZEROS.buffer, 0, 1000)),
]

/** One mutant of `file`: one to four changes, in two of three cases with a checksum that fits again. */
export function mutate(file: Uint8Array, random: Random): Uint8Array {
  let mutant: Uint8Array = Uint8Array.from(file)
  const changes = 1 + random.below(4)
  for (let c = 0; c < changes; c++) {
    // Offsets hold only while the length is that of the original, so structural changes come last.
    if (mutant.length !== file.length) break
    mutant = changeOnce(mutant, file, random)
  }
  return random.below(3) > 0 ? withChecksum(mutant, file.length - fieldsOf(file).bodyEnd) : mutant
}

function changeOnce(mutant: Uint8Array, original: Uint8Array, random: Random): Uint8Array {
  const { fields, tensors } = fieldsOf(original)
  switch (random.below(9)) {
    case 0: {
      const bit = random.below(mutant.length * 8)
      mutant[bit >> 3] ^= 1 << (bit & 7)
      return mutant
    }
    case 1:
      return mutant.subarray(0, random.below(mutant.length))
    case 2:
      return lie(mutant, random.pick(fields.filter(({ kind }) => kind !== 'bytes')), random)
    case 3: {
      const order = tensors.map((_, i) => i)
      const [a, b] = [random.below(order.length), random.below(order.length)]
      order[a] = random.below(2) === 0 ? b : order[a]
      order[b] = a
      return rebuild(mutant, tensors, order)
    }
    case 4:
      return replaceData(
        mutant,
        random.pick(fields.filter(({ what }) => what === 'data')),
        random.pick(BOMBS),
      )
    case 5: {
      const { offset, size } = random.pick(fields.filter(({ what }) => what === 'data'))
      if (size < 4) return mutant
      new DataView(mutant.buffer).setUint32(offset + random.below(size - 3), random.pick(BAD_FLOATS), true)
      return mutant
    }
    case 6: {
      const { offset, size } = random.pick(fields.filter(({ what }) => what === 'metadata'))
      const bite = Buffer.from(random.pick(BITES_OF_JSON)).subarray(0, size)
      mutant.set(bite, offset + random.below(size - bite.length + 1))
      return mutant
    }
    case 7: {
      const at = random.below(mutant.length)
      const slice = mutant.subarray(at, at + random.below(64))
      const to = random.below(mutant.length)
      return Buffer.concat([mutant.subarray(0, to), slice, mutant.subarray(to)])
    }
    default: {
      const { offset, size } = random.pick(fields)
      for (let i = 0; i < Math.min(size, 8); i++) mutant[offset + i] = random.below(256)
      return mutant
    }
  }
}

function lie(mutant: Uint8Array, { kind, offset, size }: Field, random: Random): Uint8Array {
  const view = new DataView(mutant.buffer)
  const truth =
    kind === 'u64'
      ? view.getBigUint64(offset, true)
      : BigInt(Buffer.from(mutant.buffer).readUIntLE(offset, size))
  const value = random.below(3) === 0 ? truth + BigInt(random.pick([-1, 1, 8, -8])) : random.pick(INTERESTING)
  let rest = BigInt.asUintN(8 * size, value)
  for (let i = 0; i < size; i++) {
    mutant[offset + i] = Number(rest & 0xffn)
    rest >>= 8n
  }
  return mutant
}

function rebuild(mutant: Uint8Array, tensors: readonly Field[], order: readonly number[]): Uint8Array {
  const first = tensors[0]
  const last = tensors[tensors.length - 1]
  return Buffer.concat([
    mutant.subarray(0, first.offset),
    ...order.map((i) => mutant.subarray(tensors[i].offset, tensors[i].offset + tensors[i].size)),
    mutant.subarray(last.offset + last.size),
  ])
}

function replaceData(mutant: Uint8Array, { offset, size }: Field, stored: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(stored.length))
  return Buffer.concat([mutant.subarray(0, offset - 8), length, stored, mutant.subarray(offset + size)])
}

/** Puts the checksum of the body into the header, taking the last `tailBytes` bytes to be the signature block. */
function withChecksum(mutant: Uint8Array, tailBytes: number): Uint8Array {
  if (mutant.length < 24 + tailBytes) return mutant
  const fixed = Uint8Array.from(mutant)
  fixed.set(sha3_256(fixed.subarray(24, fixed.length - tailBytes)).subarray(0, 16), 8)
  return fixed
}
