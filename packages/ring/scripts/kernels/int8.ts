/**
 * Kernels of `int8`: blocks of 256 values, a power-of-two scale and a code for each value. A block is computed into its
 * 1 KiB of scratch, with its largest magnitude; then coded from there, which by then is in the nearest cache.
 */
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
  load,
  mul,
  op,
  set,
  splat,
  store,
  sub,
  subBits,
  untilEnd,
  upperHalf,
  type Slot,
} from './wat.ts'

/** What a kernel adds to this node's own values, and what it makes of the sum. */
export type Sum = 'send' | 'pass' | 'product' | 'quotient'

/** Bits of a float's sign taken away. Magnitudes of floats order as integers do, NaN above infinity. */
const MAGNITUDE = splat(0x7fffffff)
/**
 * 1.5 * 2^23. Added to a value in units of the scale, it rounds to nearest even and leaves the code in the lowest bits:
 * it times the scale does so with the value itself, and taken away again leaves what the code stands for.
 */
const MAGIC = op('f32x4.splat', op('f32.const', 12582912))
/** Greatest biased exponent of a scale that the magic can be multiplied with: 1.5 * 2^23 * 2^103 is still a float. */
const MAX_EXPONENT = 230
const ZERO = op('v128.const', 'i32x4', 0, 0, 0, 0)

/** Sets `h0`, `h1` to sixteen codes as 16-bit integers. */
const widen = (codes: string): string[] => [
  set('c', load(codes, 0)),
  set('h0', op('i16x8.extend_low_i8x16_s', get('c'))),
  set('h1', op('i16x8.extend_high_i8x16_s', get('c'))),
]

/** scale * code, of vector `k` of what `widen` read */
const decoded = (k: number, scale: string): string =>
  mul(
    get(scale),
    op('f32x4.convert_i32x4_s', op(`i32x4.extend_${k % 2 ? 'high' : 'low'}_i16x8_s`, get(`h${k >> 1}`))),
  )

/** vector `k` of the bf16 values in `r0`, `r1` */
const widened = (k: number): string => fromBf16(get(`r${k >> 1}`), k)

const narrow = (parts: readonly string[]): string =>
  op(
    'i8x16.narrow_i16x8_s',
    op('i16x8.narrow_i32x4_s', parts[0], parts[1]),
    op('i16x8.narrow_i32x4_s', parts[2], parts[3]),
  )

/** The largest of four vectors of integers, in each lane; `order` brings other lanes over these. */
const folded = (vector: string, order: string): string =>
  op('i32x4.max_u', vector, op(`i8x16.shuffle ${order}`, vector, vector))

/**
 * (came +) own * weight + residual (, divided), coded; keeps (value - decoded) * unit in bf16 as the new residual, and
 * where it divides, what the codes decode to as the result.
 */
export function codeInt8(name: string, sum: Sum): string {
  const isMean = sum === 'product' || sum === 'quotient'
  const comes = sum !== 'send'
  const mine = (k: number): string => add(mul(load('own', 16 * k), get('w')), widened(k))
  const total = (k: number): string => (comes ? add(decoded(k, 't'), mine(k)) : mine(k))
  const value = (k: number): string =>
    sum === 'product' ? mul(total(k), get('d')) : sum === 'quotient' ? div(total(k), get('d')) : total(k)
  const params: Slot[] = [
    ['own', 'i32'],
    ['weight', 'f32'],
    ['residual', 'i32'],
    ['kept', 'i32'],
    ['unit', 'f32'],
    ['scales', 'i32'],
    ['codes', 'i32'],
    ['blocks', 'i32'],
    ...(comes
      ? ([
          ['scalesIn', 'i32'],
          ['codesIn', 'i32'],
        ] as const)
      : []),
    ...(isMean
      ? ([
          ['result', 'i32'],
          ['divisor', 'f32'],
        ] as const)
      : []),
  ]
  const vectors = ['w', 'u', 'd', 't', 's', 'c', 'h0', 'h1', 'r0', 'r1']
  const locals: Slot[] = [
    ['at', 'i32'],
    ['end', 'i32'],
    ['largest', 'i32'],
    ['e', 'i32'],
    ...[...vectors, ...four((k) => `v${k}`), ...four((k) => `m${k}`)].map((local): Slot => [local, 'v128']),
  ]
  const lost = (k: number): string => sub(get(`m${k}`), get(`v${k}`))
  return func(name, params, locals, [
    set('w', op('f32x4.splat', get('weight'))),
    set('u', op('f32x4.splat', get('unit'))),
    ...(isMean ? [set('d', op('f32x4.splat', get('divisor')))] : []),
    op(
      'block $done',
      op(
        'loop $block',
        op('br_if $done', op('i32.eqz', get('blocks'))),
        ...(comes ? [set('t', op('v128.load32_splat', get('scalesIn')))] : []),
        ...four((k) => set(`m${k}`, ZERO)),
        set('at', i32(0)),
        set('end', i32(1024)),
        untilEnd('sum', 'at', 'end', [
          set('r0', load('residual', 0)),
          set('r1', load('residual', 16)),
          ...(comes ? widen('codesIn') : []),
          ...four((k) => set(`v${k}`, value(k))),
          ...four((k) => store('at', 16 * k, get(`v${k}`))),
          ...four((k) => set(`m${k}`, op('i32x4.max_u', get(`m${k}`), and(get(`v${k}`), MAGNITUDE)))),
          advance('own', 64),
          advance('residual', 32),
          ...(comes ? [advance('codesIn', 16)] : []),
          advance('at', 64),
        ]),
        set(
          'm0',
          op('i32x4.max_u', op('i32x4.max_u', get('m0'), get('m1')), op('i32x4.max_u', get('m2'), get('m3'))),
        ),
        set('m0', folded(get('m0'), '8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7')),
        set('m0', folded(get('m0'), '4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11')),
        set('largest', op('i32x4.extract_lane 0', get('m0'))),
        set('e', op('call $exponent', get('largest'))),
        op('i32.store', get('scales'), op('call $scaleBits', get('largest'), get('e'))),
        op(
          'if',
          // A block whose step times the unit is small enough cannot leave anything over that is not finite.
          op(
            'i32.and',
            op('i32.lt_u', op('i32.sub', get('e'), i32(1)), i32(MAX_EXPONENT)),
            op('f32.lt', op('f32.mul', get('unit'), op('f32.load', get('scales'))), op('f32.const', 1e38)),
          ),
          op(
            'then',
            set('s', mul(MAGIC, op('v128.load32_splat', get('scales')))),
            set('at', i32(0)),
            untilEnd('code', 'at', 'end', [
              ...four((k) => set(`m${k}`, load('at', 16 * k))),
              ...four((k) => set(`v${k}`, add(get(`m${k}`), get('s')))),
              store('codes', 0, narrow(four((k) => subBits(get(`v${k}`), get('s'))))),
              ...four((k) => set(`v${k}`, sub(get(`v${k}`), get('s')))),
              ...(isMean ? four((k) => store('result', 16 * k, get(`v${k}`))) : []),
              ...four((k) => set(`v${k}`, isMean ? mul(get('u'), lost(k)) : lost(k))),
              ...four((k) => set(`v${k}`, upperHalf(addBits(splat(0x8000), get(`v${k}`))))),
              store('kept', 0, op('i16x8.narrow_i32x4_u', get('v0'), get('v1'))),
              store('kept', 16, op('i16x8.narrow_i32x4_u', get('v2'), get('v3'))),
              advance('codes', 16),
              advance('kept', 32),
              ...(isMean ? [advance('result', 64)] : []),
              advance('at', 64),
            ]),
          ),
          op(
            'else',
            op('call $codeOddBlock', get('scales'), get('e'), get('codes'), get('kept'), get('u')),
            ...(isMean
              ? [
                  op('call $decodeInt8', get('result'), get('scales'), get('codes'), i32(1)),
                  advance('result', 1024),
                ]
              : []),
            advance('codes', 256),
            advance('kept', 512),
          ),
        ),
        advance('scales', 4),
        ...(comes ? [advance('scalesIn', 4)] : []),
        set('blocks', op('i32.sub', get('blocks'), i32(1))),
        op('br $block'),
      ),
    ),
  ])
}

/** What codes stand for. */
export function decodeInt8(): string {
  const params: Slot[] = [
    ['result', 'i32'],
    ['scales', 'i32'],
    ['codes', 'i32'],
    ['blocks', 'i32'],
  ]
  const locals: Slot[] = [['end', 'i32'], ...['s', 'c', 'h0', 'h1'].map((local): Slot => [local, 'v128'])]
  return func('decodeInt8', params, locals, [
    op(
      'block $done',
      op(
        'loop $block',
        op('br_if $done', op('i32.eqz', get('blocks'))),
        set('s', op('v128.load32_splat', get('scales'))),
        set('end', op('i32.add', get('result'), i32(1024))),
        untilEnd('next', 'result', 'end', [
          ...widen('codes'),
          ...four((k) => store('result', 16 * k, decoded(k, 's'))),
          advance('result', 64),
          advance('codes', 16),
        ]),
        advance('scales', 4),
        set('blocks', op('i32.sub', get('blocks'), i32(1))),
        op('br $block'),
      ),
    ),
  ])
}

/** Functions that the kernels above call. */
export const INT8_PARTS: readonly string[] = [
  `;; Biased exponent of the smallest power of two s with largest / s <= 127, at least 1; 0 stands for "no scale".
  ;; 127 = 1.984375 * 2^6: adding what is missing from 1.984375 to 2 carries into the exponent when it is exceeded.
  (func $exponent (param $largest i32) (result i32)
    (local $e i32)
    (if (i32.or (i32.ge_u (local.get $largest) (i32.const 0x7f800000))
                (i32.le_u (local.get $largest) (i32.const 0x00400000)))
      (then (return (i32.const 0))))
    (local.set $e (i32.sub
      (i32.shr_u (i32.add (local.get $largest) (i32.const 0x1ffff)) (i32.const 23)) (i32.const 6)))
    (select (i32.const 1) (local.get $e) (i32.lt_s (local.get $e) (i32.const 1))))`,
  `;; The scale's bits: NaN for a block that holds one or an infinity, 0 for one that is all but zero.
  (func $scaleBits (param $largest i32) (param $exponent i32) (result i32)
    (if (i32.ge_u (local.get $largest) (i32.const 0x7f800000)) (then (return (i32.const 0x7fc00000))))
    (i32.shl (local.get $exponent) (i32.const 23)))`,
  `;; 1 / scale, or 0 without a scale, so that every code becomes 0.
  (func $inverse (param $exponent i32) (result v128)
    (if (i32.eqz (local.get $exponent)) (then (return (v128.const i32x4 0 0 0 0))))
    (i32x4.splat (i32.shl (i32.sub (i32.const 254) (local.get $exponent)) (i32.const 23))))`,
  `;; Codes the block in scratch with any values and any unit: what is left over is 0 where it is not finite, or so
  ;; large that rounding would make it so.
  (func $codeOddBlock (param $scale i32) (param $e i32) (param $codes i32) (param $kept i32) (param $u v128)
    (local $at i32) (local $i v128) (local $s v128) (local $a v128) (local $p v128)
    (local.set $s (v128.load32_splat (local.get $scale)))
    (local.set $i (call $inverse (local.get $e)))
    (loop $next
      (local.set $a (v128.load (local.get $at)))
      (local.set $p (i32x4.trunc_sat_f32x4_s (f32x4.nearest (f32x4.mul (local.get $a) (local.get $i)))))
      (v128.store32_lane 0 (local.get $codes) (i8x16.narrow_i16x8_s
        (i16x8.narrow_i32x4_s (local.get $p) (local.get $p)) (local.get $p)))
      (local.set $a (f32x4.mul (local.get $u) (f32x4.sub (local.get $a)
        (f32x4.mul (local.get $s) (f32x4.convert_i32x4_s (local.get $p))))))
      (local.set $a (v128.and (local.get $a)
        (f32x4.lt (f32x4.abs (local.get $a)) (f32x4.splat (f32.const 3.0e38)))))
      (local.set $a (i32x4.shr_u (i32x4.add (i32x4.splat (i32.const 0x8000)) (local.get $a)) (i32.const 16)))
      (v128.store64_lane 0 (local.get $kept) (i16x8.narrow_i32x4_u (local.get $a) (local.get $a)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (local.set $codes (i32.add (local.get $codes) (i32.const 4)))
      (local.set $kept (i32.add (local.get $kept) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 1024)))))`,
]
