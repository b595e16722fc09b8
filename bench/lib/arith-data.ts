/**
 * The sums that the demo model learns: all pairs of 0 to 99 in the order of Python's `random.Random(1234).shuffle`, the
 * first 1,000 held out. The generator is MT19937 (Matsumoto and Nishimura 1998) as CPython seeds and reads it.
 */

const HELD_OUT = 1000
const SEED = 1234
const SIZE = 624
const MIDDLE = 397

/** The two JSONL files by name. */
export function arithData(): { readonly 'train.jsonl': string; readonly 'test.jsonl': string } {
  const pairs = Array.from({ length: 10_000 }, (_, index) => [Math.floor(index / 100), index % 100] as const)
  const random = twister(SEED)
  for (let last = pairs.length - 1; last > 0; last--) {
    const other = below(last + 1, random)
    const [a, b] = [pairs[last], pairs[other]]
    if (a !== undefined && b !== undefined) [pairs[last], pairs[other]] = [b, a]
  }
  const lines = pairs.map(([a, b]) => `{"prompt": "${a}+${b}=", "answer": "${a + b}"}\n`)
  return {
    'train.jsonl': lines.slice(HELD_OUT).join(''),
    'test.jsonl': lines.slice(0, HELD_OUT).join(''),
  }
}

/** CPython's `Random._randbelow`: as many bits as `limit` has, until they are below it. */
function below(limit: number, random: () => number): number {
  const unused = Math.clz32(limit)
  for (;;) {
    const value = random() >>> unused
    if (value < limit) return value
  }
}

/** 32-bit draws of MT19937 after `init_by_array([seed])`. */
function twister(seed: number): () => number {
  const state = new Uint32Array(SIZE)
  state[0] = 19650218
  for (let i = 1; i < SIZE; i++) state[i] = Math.imul(1812433253, mixed(state, i - 1)) + i
  let at = 1
  for (let left = SIZE; left > 0; left--) {
    state[at] = ((state[at] ?? 0) ^ Math.imul(mixed(state, at - 1), 1664525)) + seed
    if (++at === SIZE) {
      state[0] = state[SIZE - 1] ?? 0
      at = 1
    }
  }
  for (let left = SIZE - 1; left > 0; left--) {
    state[at] = ((state[at] ?? 0) ^ Math.imul(mixed(state, at - 1), 1566083941)) - at
    if (++at === SIZE) {
      state[0] = state[SIZE - 1] ?? 0
      at = 1
    }
  }
  state[0] = 0x8000_0000
  let used = SIZE
  return () => {
    if (used === SIZE) {
      for (let i = 0; i < SIZE; i++) {
        const y = ((state[i] ?? 0) & 0x8000_0000) | ((state[(i + 1) % SIZE] ?? 0) & 0x7fff_ffff)
        state[i] = (state[(i + MIDDLE) % SIZE] ?? 0) ^ (y >>> 1) ^ (y & 1 ? 0x9908_b0df : 0)
      }
      used = 0
    }
    let y = state[used++] ?? 0
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c_5680
    y ^= (y << 15) & 0xefc6_0000
    return (y ^ (y >>> 18)) >>> 0
  }
}

function mixed(state: Uint32Array, at: number): number {
  const value = state[at] ?? 0
  return value ^ (value >>> 30)
}
