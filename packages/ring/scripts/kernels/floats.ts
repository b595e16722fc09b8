/** Kernels of `f32` and `bf16`: sixteen values at a time from where they lie to where they go. */
import {
  add,
  addBits,
  advance,
  and,
  div,
  four,
  fromBf16,
  func,
  get,
  i32,
  isNaNs,
  load,
  mul,
  op,
  or,
  set,
  splat,
  store,
  untilEnd,
  upperHalf,
  type Slot,
} from './wat.ts'
import type { Sum } from './int8.ts'

/** (came +) own * weight (, divided), with `came(k)` the vector that the predecessor sent. */
function summed(sum: Sum, came: (k: number) => string): (k: number) => string {
  const mine = (k: number): string => mul(load('own', 16 * k), get('w'))
  const total = (k: number): string => (sum === 'send' ? mine(k) : add(came(k), mine(k)))
  return (k) =>
    sum === 'product' ? mul(total(k), get('d')) : sum === 'quotient' ? div(total(k), get('d')) : total(k)
}

/** Parameters that all sums have: where own values lie, their weight, and the count; then what else takes part. */
function sumParams(sum: Sum): Slot[] {
  const isMean = sum === 'product' || sum === 'quotient'
  return [
    ['own', 'i32'],
    ['weight', 'f32'],
    ['out', 'i32'],
    ['count', 'i32'],
    ...(sum === 'send' ? [] : ([['came', 'i32']] as const)),
    ...(isMean
      ? ([
          ['result', 'i32'],
          ['divisor', 'f32'],
        ] as const)
      : []),
  ]
}

const begin = (sum: Sum): string[] => [
  set('w', op('f32x4.splat', get('weight'))),
  ...(sum === 'product' || sum === 'quotient' ? [set('d', op('f32x4.splat', get('divisor')))] : []),
  set('end', op('i32.add', get('own'), op('i32.shl', get('count'), i32(2)))),
]

/** (came +) own * weight (, divided); the mean goes to `out`, like the rest, and `result` is not used. */
export function sumF32(name: string, sum: Sum): string {
  const value = summed(sum, (k) => load('came', 16 * k))
  const locals: Slot[] = [
    ['end', 'i32'],
    ['w', 'v128'],
    ['d', 'v128'],
  ]
  return func(name, sumParams(sum), locals, [
    ...begin(sum),
    op('if', op('i32.eqz', get('count')), op('then', 'return')),
    untilEnd('next', 'own', 'end', [
      ...four((k) => store('out', 16 * k, value(k))),
      advance('own', 64),
      advance('out', 64),
      ...(sum === 'send' ? [] : [advance('came', 64)]),
    ]),
  ])
}

/** Vector `k` of the bf16 values in `h0`, `h1`. */
const widened = (k: number): string => fromBf16(get(`h${k >> 1}`), k)

/** Rounded to nearest even in the upper half of each; the lower halves are rubbish. A NaN may become anything. */
const rounded = (value: string): string =>
  addBits(addBits(value, splat(0x7fff)), and(upperHalf(value), splat(1)))

/**
 * The same in bf16, and where it divides, what that stands for as the result. Returns whether there was a NaN, which
 * rounding may have spoilt: then it is all done again by the careful kind, which looks at every value.
 */
export function codeBf16(name: string, sum: Sum, isCareful: boolean): string {
  const isMean = sum === 'product' || sum === 'quotient'
  const value = summed(sum, widened)
  const quiet = (v: string): string => op('v128.bitselect', or(v, splat(0x400000)), rounded(v), isNaNs(v))
  const names = ['w', 'd', 'h0', 'h1', 'nan', ...four((k) => `v${k}`)]
  const locals: Slot[] = [['end', 'i32'], ...names.map((local): Slot => [local, 'v128'])]
  const body = [
    ...begin(sum),
    op('if', op('i32.eqz', get('count')), op('then', i32(0), 'return')),
    untilEnd('next', 'own', 'end', [
      ...(sum === 'send' ? [] : [set('h0', load('came', 0)), set('h1', load('came', 16))]),
      ...four((k) => set(`v${k}`, value(k))),
      ...(isCareful
        ? []
        : [
            set(
              'nan',
              four((k) => isNaNs(get(`v${k}`))).reduce((all, each) => or(all, each), get('nan')),
            ),
          ]),
      ...four((k) => set(`v${k}`, isCareful ? quiet(get(`v${k}`)) : rounded(get(`v${k}`)))),
      ...(isMean ? four((k) => store('result', 16 * k, and(get(`v${k}`), splat(0xffff0000)))) : []),
      ...four((k) => set(`v${k}`, upperHalf(get(`v${k}`)))),
      store('out', 0, op('i16x8.narrow_i32x4_u', get('v0'), get('v1'))),
      store('out', 16, op('i16x8.narrow_i32x4_u', get('v2'), get('v3'))),
      advance('own', 64),
      advance('out', 32),
      ...(sum === 'send' ? [] : [advance('came', 32)]),
      ...(isMean ? [advance('result', 64)] : []),
    ]),
    op('v128.any_true', get('nan')),
  ]
  return func(name, sumParams(sum), locals, body).replace('(local ', '(result i32) (local ')
}

/** What bf16 stands for. */
export function decodeBf16(): string {
  const params: Slot[] = [
    ['result', 'i32'],
    ['codes', 'i32'],
    ['count', 'i32'],
  ]
  const locals: Slot[] = [
    ['end', 'i32'],
    ['h0', 'v128'],
    ['h1', 'v128'],
  ]
  return func('decodeBf16', params, locals, [
    op('if', op('i32.eqz', get('count')), op('then', 'return')),
    set('end', op('i32.add', get('result'), op('i32.shl', get('count'), i32(2)))),
    untilEnd('next', 'result', 'end', [
      set('h0', load('codes', 0)),
      set('h1', load('codes', 16)),
      ...four((k) => store('result', 16 * k, widened(k))),
      advance('result', 64),
      advance('codes', 32),
    ]),
  ])
}
