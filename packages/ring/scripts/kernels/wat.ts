/** Short names for WebAssembly's text, so that a kernel reads as the formula it is. Every function returns text. */

/** An instruction with its operands. */
export function op(name: string, ...operands: readonly (string | number)[]): string {
  return `(${[name, ...operands].join(' ')})`
}

/** The value of a local. */
export function get(local: string): string {
  return op('local.get', `$${local}`)
}

/** Sets a local. */
export function set(local: string, value: string): string {
  return op('local.set', `$${local}`, value)
}

/** A constant integer. */
export function i32(value: number): string {
  return op('i32.const', value)
}

/** Four equal integers. */
export function splat(value: number): string {
  return op('i32x4.splat', i32(value))
}

/** The 16 bytes `offset` behind the address in a local. */
export function load(pointer: string, offset: number): string {
  return op('v128.load', `offset=${offset}`, get(pointer))
}

/** Stores 16 bytes `offset` behind the address in a local. */
export function store(pointer: string, offset: number, value: string): string {
  return op('v128.store', `offset=${offset}`, get(pointer), value)
}

/** Adds to an address. */
export function advance(pointer: string, bytes: number): string {
  return set(pointer, op('i32.add', get(pointer), i32(bytes)))
}

/** Arithmetic on four floats. */
export const add = (a: string, b: string): string => op('f32x4.add', a, b)
export const sub = (a: string, b: string): string => op('f32x4.sub', a, b)
export const mul = (a: string, b: string): string => op('f32x4.mul', a, b)
export const div = (a: string, b: string): string => op('f32x4.div', a, b)
/** Arithmetic on four integers, or on the bits of four floats. */
export const addBits = (a: string, b: string): string => op('i32x4.add', a, b)
export const subBits = (a: string, b: string): string => op('i32x4.sub', a, b)
export const and = (a: string, b: string): string => op('v128.and', a, b)
export const or = (a: string, b: string): string => op('v128.or', a, b)
/** All bits of each lane that is a NaN. */
export const isNaNs = (a: string): string => op('f32x4.ne', a, a)
/** The upper sixteen bits of each lane, brought down. */
export const upperHalf = (a: string): string => op('i32x4.shr_u', a, i32(16))

/** Vector `k` of two of bf16 values as floats: each over sixteen zeros. One instruction, where extending takes two. */
export function fromBf16(halves: string, k: number): string {
  const order =
    k % 2 === 0 ? '0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23' : '8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31'
  return op(`i8x16.shuffle ${order}`, op('v128.const', 'i32x4', 0, 0, 0, 0), halves)
}

/** A parameter or local: its name and type. */
export type Slot = readonly [name: string, type: 'i32' | 'f32' | 'v128']

/** An exported function (`$name` inside the module); locals begin as zero. */
export function func(
  name: string,
  params: readonly Slot[],
  locals: readonly Slot[],
  body: readonly string[],
): string {
  const declare = (kind: string, slots: readonly Slot[]): string =>
    slots.map(([slot, type]) => `(${kind} $${slot} ${type})`).join(' ')
  return `(func $${name} (export "${name}") ${declare('param', params)} ${declare('local', locals)}\n${body.join('\n')})`
}

/** Repeats until `pointer` has reached `end`, at least once. */
export function untilEnd(label: string, pointer: string, end: string, body: readonly string[]): string {
  return op(`loop $${label}`, ...body, op(`br_if $${label}`, op('i32.lt_u', get(pointer), get(end))))
}

/** The same for each of 0, 1, 2, 3: sixteen values are four vectors of four. */
export function four(body: (k: number) => string): string[] {
  return [0, 1, 2, 3].map(body)
}
