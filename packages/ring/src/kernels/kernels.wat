;; The arithmetic of a round on 128-bit vectors. Everything works on one memory; addresses are in bytes. `count` is in
;; elements, a multiple of 16 for floats and a number of blocks of 256 for int8: what lies behind the last element is
;; scratch. Built into kernels-wasm.ts by scripts/build-kernels.ts; test/kernels.test.ts rebuilds and compares.
(module
  (import "env" "memory" (memory 1))

  ;; to[i] = part[i] + to[i] * weight
  (func (export "accumulate") (param $to i32) (param $part i32) (param $weight f32) (param $count i32)
    (local $end i32) (local $w v128)
    (local.set $w (f32x4.splat (local.get $weight)))
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (v128.store (local.get $to) (f32x4.add (v128.load (local.get $part))
        (f32x4.mul (v128.load (local.get $to)) (local.get $w))))
      (v128.store offset=16 (local.get $to) (f32x4.add (v128.load offset=16 (local.get $part))
        (f32x4.mul (v128.load offset=16 (local.get $to)) (local.get $w))))
      (v128.store offset=32 (local.get $to) (f32x4.add (v128.load offset=32 (local.get $part))
        (f32x4.mul (v128.load offset=32 (local.get $to)) (local.get $w))))
      (v128.store offset=48 (local.get $to) (f32x4.add (v128.load offset=48 (local.get $part))
        (f32x4.mul (v128.load offset=48 (local.get $to)) (local.get $w))))
      (local.set $to (i32.add (local.get $to) (i32.const 64)))
      (local.set $part (i32.add (local.get $part) (i32.const 64)))
      (br $next))))

  ;; to[i] = to[i] * factor
  (func (export "scale") (param $to i32) (param $factor f32) (param $count i32)
    (local $end i32) (local $f v128)
    (local.set $f (f32x4.splat (local.get $factor)))
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (v128.store (local.get $to) (f32x4.mul (v128.load (local.get $to)) (local.get $f)))
      (v128.store offset=16 (local.get $to) (f32x4.mul (v128.load offset=16 (local.get $to)) (local.get $f)))
      (v128.store offset=32 (local.get $to) (f32x4.mul (v128.load offset=32 (local.get $to)) (local.get $f)))
      (v128.store offset=48 (local.get $to) (f32x4.mul (v128.load offset=48 (local.get $to)) (local.get $f)))
      (local.set $to (i32.add (local.get $to) (i32.const 64)))
      (br $next))))

  ;; to[i] = to[i] / divisor
  (func (export "divide") (param $to i32) (param $divisor f32) (param $count i32)
    (local $end i32) (local $d v128)
    (local.set $d (f32x4.splat (local.get $divisor)))
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (v128.store (local.get $to) (f32x4.div (v128.load (local.get $to)) (local.get $d)))
      (v128.store offset=16 (local.get $to) (f32x4.div (v128.load offset=16 (local.get $to)) (local.get $d)))
      (v128.store offset=32 (local.get $to) (f32x4.div (v128.load offset=32 (local.get $to)) (local.get $d)))
      (v128.store offset=48 (local.get $to) (f32x4.div (v128.load offset=48 (local.get $to)) (local.get $d)))
      (local.set $to (i32.add (local.get $to) (i32.const 64)))
      (br $next))))

  ;; to[i] = to[i] * weight + residual[i], the residual in bf16
  (func (export "weigh") (param $to i32) (param $weight f32) (param $residual i32) (param $count i32)
    (local $end i32) (local $w v128) (local $half v128)
    (local.set $w (f32x4.splat (local.get $weight)))
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (local.set $half (v128.load (local.get $residual)))
      (v128.store (local.get $to) (f32x4.add
        (f32x4.mul (v128.load (local.get $to)) (local.get $w))
        (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $half)) (i32.const 16))))
      (v128.store offset=16 (local.get $to) (f32x4.add
        (f32x4.mul (v128.load offset=16 (local.get $to)) (local.get $w))
        (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $half)) (i32.const 16))))
      (local.set $to (i32.add (local.get $to) (i32.const 32)))
      (local.set $residual (i32.add (local.get $residual) (i32.const 16)))
      (br $next))))

  ;; bf16: the upper half of each float, rounded to nearest even; a NaN stays one. NaNs are looked for on the way, and
  ;; only where there are any is all of it done again with care.
  (func (export "encodeBf16") (param $out i32) (param $from i32) (param $count i32)
    (local $end i32) (local $next i32) (local $to i32) (local $a v128) (local $b v128) (local $nan v128)
    (local.set $next (local.get $from))
    (local.set $to (local.get $out))
    (local.set $end (i32.add (local.get $from) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $quick
      (br_if $done (i32.ge_u (local.get $next) (local.get $end)))
      (local.set $a (v128.load (local.get $next)))
      (local.set $b (v128.load offset=16 (local.get $next)))
      (local.set $nan (v128.or (local.get $nan)
        (v128.or (f32x4.ne (local.get $a) (local.get $a)) (f32x4.ne (local.get $b) (local.get $b)))))
      (local.set $a (i32x4.shr_u
        (i32x4.add
          (i32x4.add (local.get $a) (i32x4.splat (i32.const 0x7fff)))
          (v128.and (i32x4.shr_u (local.get $a) (i32.const 16)) (i32x4.splat (i32.const 1))))
        (i32.const 16)))
      (local.set $b (i32x4.shr_u
        (i32x4.add
          (i32x4.add (local.get $b) (i32x4.splat (i32.const 0x7fff)))
          (v128.and (i32x4.shr_u (local.get $b) (i32.const 16)) (i32x4.splat (i32.const 1))))
        (i32.const 16)))
      (v128.store (local.get $to) (i16x8.narrow_i32x4_u (local.get $a) (local.get $b)))
      (local.set $next (i32.add (local.get $next) (i32.const 32)))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (br $quick)))
    (if (v128.any_true (local.get $nan))
      (then (call $encodeBf16Careful (local.get $out) (local.get $from) (local.get $end)))))

  ;; The same where a NaN may be: rounding would make an infinity of some.
  (func $encodeBf16Careful (param $out i32) (param $from i32) (param $end i32)
    (local $a v128)
    (loop $next
      (local.set $a (v128.load (local.get $from)))
      (local.set $a (v128.bitselect
        (v128.or (i32x4.shr_u (local.get $a) (i32.const 16)) (i32x4.splat (i32.const 0x40)))
        (i32x4.shr_u
          (i32x4.add
            (i32x4.add (local.get $a) (i32x4.splat (i32.const 0x7fff)))
            (v128.and (i32x4.shr_u (local.get $a) (i32.const 16)) (i32x4.splat (i32.const 1))))
          (i32.const 16))
        (f32x4.ne (local.get $a) (local.get $a))))
      (v128.store64_lane 0 (local.get $out) (i16x8.narrow_i32x4_u (local.get $a) (local.get $a)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (local.set $out (i32.add (local.get $out) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $from) (local.get $end)))))

  ;; bf16 back to floats
  (func (export "decodeBf16") (param $to i32) (param $in i32) (param $count i32)
    (local $end i32) (local $half v128)
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (local.set $half (v128.load (local.get $in)))
      (v128.store (local.get $to)
        (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $half)) (i32.const 16)))
      (v128.store offset=16 (local.get $to)
        (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $half)) (i32.const 16)))
      (local.set $to (i32.add (local.get $to) (i32.const 32)))
      (local.set $in (i32.add (local.get $in) (i32.const 16)))
      (br $next))))

  ;; to[i] = decoded + to[i] * weight
  (func (export "addBf16") (param $to i32) (param $weight f32) (param $in i32) (param $count i32)
    (local $end i32) (local $w v128) (local $half v128)
    (local.set $w (f32x4.splat (local.get $weight)))
    (local.set $end (i32.add (local.get $to) (i32.shl (local.get $count) (i32.const 2))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $to) (local.get $end)))
      (local.set $half (v128.load (local.get $in)))
      (v128.store (local.get $to) (f32x4.add
        (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $half)) (i32.const 16))
        (f32x4.mul (v128.load (local.get $to)) (local.get $w))))
      (v128.store offset=16 (local.get $to) (f32x4.add
        (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $half)) (i32.const 16))
        (f32x4.mul (v128.load offset=16 (local.get $to)) (local.get $w))))
      (local.set $to (i32.add (local.get $to) (i32.const 32)))
      (local.set $in (i32.add (local.get $in) (i32.const 16)))
      (br $next))))

  ;; Bits of the largest magnitude among 256 floats; a NaN wins over everything.
  (func $largest (param $from i32) (result i32)
    (local $end i32) (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $sign v128)
    (local.set $sign (i32x4.splat (i32.const 0x7fffffff)))
    (local.set $end (i32.add (local.get $from) (i32.const 1024)))
    ;; Magnitudes of floats order as integers do, NaN above infinity.
    (loop $next
      (local.set $a (i32x4.max_u (local.get $a) (v128.and (local.get $sign) (v128.load (local.get $from)))))
      (local.set $b (i32x4.max_u (local.get $b) (v128.and (local.get $sign) (v128.load offset=16 (local.get $from)))))
      (local.set $c (i32x4.max_u (local.get $c) (v128.and (local.get $sign) (v128.load offset=32 (local.get $from)))))
      (local.set $d (i32x4.max_u (local.get $d) (v128.and (local.get $sign) (v128.load offset=48 (local.get $from)))))
      (local.set $from (i32.add (local.get $from) (i32.const 64)))
      (br_if $next (i32.lt_u (local.get $from) (local.get $end))))
    (local.set $a (i32x4.max_u
      (i32x4.max_u (local.get $a) (local.get $b)) (i32x4.max_u (local.get $c) (local.get $d))))
    (local.set $a (i32x4.max_u (local.get $a)
      (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $a) (local.get $a))))
    (local.set $a (i32x4.max_u (local.get $a)
      (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $a) (local.get $a))))
    (i32x4.extract_lane 0 (local.get $a)))

  ;; Biased exponent of the smallest power of two s with largest / s <= 127, at least 1; 0 stands for "no scale".
  ;; 127 = 1.984375 * 2^6: adding what is missing from 1.984375 to 2 carries into the exponent when it is exceeded.
  (func $exponent (param $largest i32) (result i32)
    (local $e i32)
    (if (i32.or (i32.ge_u (local.get $largest) (i32.const 0x7f800000))
                (i32.le_u (local.get $largest) (i32.const 0x00400000)))
      (then (return (i32.const 0))))
    (local.set $e (i32.sub
      (i32.shr_u (i32.add (local.get $largest) (i32.const 0x1ffff)) (i32.const 23)) (i32.const 6)))
    (select (i32.const 1) (local.get $e) (i32.lt_s (local.get $e) (i32.const 1))))

  ;; The scale's bits: NaN for a block that holds one or an infinity, 0 for one that is all but zero.
  (func $scaleBits (param $largest i32) (param $exponent i32) (result i32)
    (if (i32.ge_u (local.get $largest) (i32.const 0x7f800000)) (then (return (i32.const 0x7fc00000))))
    (i32.shl (local.get $exponent) (i32.const 23)))

  ;; 1 / scale, or 0 without a scale, so that every code becomes 0.
  (func $inverse (param $exponent i32) (result v128)
    (if (i32.eqz (local.get $exponent)) (then (return (v128.const i32x4 0 0 0 0))))
    (i32x4.splat (i32.shl (i32.sub (i32.const 254) (local.get $exponent)) (i32.const 23))))

  ;; int8: a scale and 256 codes a block. A code is value / scale rounded to nearest even, within +-127 by the scale.
  ;; Adding 1.5 * 2^23, whose unit in the last place is 1, does the rounding and leaves the code in the lowest bits.
  (func (export "encodeInt8") (param $scales i32) (param $out i32) (param $from i32) (param $blocks i32)
    (local $end i32) (local $largest i32) (local $e i32) (local $i v128) (local $magic v128)
    (local.set $magic (f32x4.splat (f32.const 12582912)))
    (block $done (loop $block
      (br_if $done (i32.eqz (local.get $blocks)))
      (local.set $largest (call $largest (local.get $from)))
      (local.set $e (call $exponent (local.get $largest)))
      (i32.store (local.get $scales) (call $scaleBits (local.get $largest) (local.get $e)))
      (local.set $end (i32.add (local.get $from) (i32.const 1024)))
      (if (local.get $e)
        (then
          (local.set $i (call $inverse (local.get $e)))
          (loop $next
            (v128.store (local.get $out) (i8x16.narrow_i16x8_s
              (i16x8.narrow_i32x4_s
                (i32x4.sub (f32x4.add (f32x4.mul (v128.load (local.get $from)) (local.get $i)) (local.get $magic)) (local.get $magic))
                (i32x4.sub (f32x4.add (f32x4.mul (v128.load offset=16 (local.get $from)) (local.get $i)) (local.get $magic)) (local.get $magic)))
              (i16x8.narrow_i32x4_s
                (i32x4.sub (f32x4.add (f32x4.mul (v128.load offset=32 (local.get $from)) (local.get $i)) (local.get $magic)) (local.get $magic))
                (i32x4.sub (f32x4.add (f32x4.mul (v128.load offset=48 (local.get $from)) (local.get $i)) (local.get $magic)) (local.get $magic)))))
            (local.set $from (i32.add (local.get $from) (i32.const 64)))
            (local.set $out (i32.add (local.get $out) (i32.const 16)))
            (br_if $next (i32.lt_u (local.get $from) (local.get $end)))))
        (else (loop $next
          (v128.store (local.get $out) (v128.const i32x4 0 0 0 0))
          (local.set $from (i32.add (local.get $from) (i32.const 64)))
          (local.set $out (i32.add (local.get $out) (i32.const 16)))
          (br_if $next (i32.lt_u (local.get $from) (local.get $end))))))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $blocks (i32.sub (local.get $blocks) (i32.const 1)))
      (br $block))))

  ;; int8, keeping residual[i] = (from[i] - decoded) * unit in bf16, rounded half up; 0 where it is not finite or so
  ;; large that rounding would make it so. A block whose step times the unit is small enough cannot have such values.
  (func (export "encodeInt8Keeping")
    (param $scales i32) (param $out i32) (param $from i32) (param $residual i32) (param $unit f32) (param $blocks i32)
    (local $end i32) (local $largest i32) (local $e i32) (local $i v128) (local $s v128) (local $u v128)
    (local $a v128) (local $b v128) (local $p v128) (local $q v128) (local $magic v128) (local $half v128)
    (local.set $u (f32x4.splat (local.get $unit)))
    (local.set $magic (f32x4.splat (f32.const 12582912)))
    (local.set $half (i32x4.splat (i32.const 0x8000)))
    (block $done (loop $block
      (br_if $done (i32.eqz (local.get $blocks)))
      (local.set $largest (call $largest (local.get $from)))
      (local.set $e (call $exponent (local.get $largest)))
      (i32.store (local.get $scales) (call $scaleBits (local.get $largest) (local.get $e)))
      (if (i32.and (i32.ne (local.get $e) (i32.const 0))
                   (f32.lt (f32.mul (local.get $unit) (f32.load (local.get $scales))) (f32.const 1e38)))
        (then
          (local.set $s (v128.load32_splat (local.get $scales)))
          (local.set $i (call $inverse (local.get $e)))
          (local.set $end (i32.add (local.get $from) (i32.const 1024)))
          (loop $next
            (local.set $a (v128.load (local.get $from)))
            (local.set $b (v128.load offset=16 (local.get $from)))
            (local.set $p (f32x4.add (f32x4.mul (local.get $a) (local.get $i)) (local.get $magic)))
            (local.set $q (f32x4.add (f32x4.mul (local.get $b) (local.get $i)) (local.get $magic)))
            (v128.store64_lane 0 (local.get $out) (i8x16.narrow_i16x8_s
              (i16x8.narrow_i32x4_s (i32x4.sub (local.get $p) (local.get $magic)) (i32x4.sub (local.get $q) (local.get $magic)))
              (local.get $p)))
            (local.set $a (f32x4.mul (local.get $u) (f32x4.sub (local.get $a)
              (f32x4.mul (local.get $s) (f32x4.sub (local.get $p) (local.get $magic))))))
            (local.set $b (f32x4.mul (local.get $u) (f32x4.sub (local.get $b)
              (f32x4.mul (local.get $s) (f32x4.sub (local.get $q) (local.get $magic))))))
            (v128.store (local.get $residual) (i16x8.narrow_i32x4_u
              (i32x4.shr_u (i32x4.add (local.get $half) (local.get $a)) (i32.const 16))
              (i32x4.shr_u (i32x4.add (local.get $half) (local.get $b)) (i32.const 16))))
            (local.set $from (i32.add (local.get $from) (i32.const 32)))
            (local.set $out (i32.add (local.get $out) (i32.const 8)))
            (local.set $residual (i32.add (local.get $residual) (i32.const 16)))
            (br_if $next (i32.lt_u (local.get $from) (local.get $end)))))
        (else
          (call $encodeInt8OddBlock (local.get $scales) (local.get $e)
            (local.get $out) (local.get $from) (local.get $residual) (local.get $u))
          (local.set $from (i32.add (local.get $from) (i32.const 1024)))
          (local.set $out (i32.add (local.get $out) (i32.const 256)))
          (local.set $residual (i32.add (local.get $residual) (i32.const 512)))))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $blocks (i32.sub (local.get $blocks) (i32.const 1)))
      (br $block))))

  ;; The same for one block of any values and any unit.
  (func $encodeInt8OddBlock
    (param $scale i32) (param $e i32) (param $out i32) (param $from i32) (param $residual i32) (param $u v128)
    (local $end i32) (local $i v128) (local $s v128) (local $a v128) (local $p v128)
    (local.set $s (v128.load32_splat (local.get $scale)))
    (local.set $i (call $inverse (local.get $e)))
    (local.set $end (i32.add (local.get $from) (i32.const 1024)))
    (loop $next
      (local.set $a (v128.load (local.get $from)))
      (local.set $p (i32x4.trunc_sat_f32x4_s (f32x4.nearest (f32x4.mul (local.get $a) (local.get $i)))))
      (v128.store32_lane 0 (local.get $out) (i8x16.narrow_i16x8_s
        (i16x8.narrow_i32x4_s (local.get $p) (local.get $p)) (local.get $p)))
      (local.set $a (f32x4.mul (local.get $u) (f32x4.sub (local.get $a)
        (f32x4.mul (local.get $s) (f32x4.convert_i32x4_s (local.get $p))))))
      (local.set $a (v128.and (local.get $a)
        (f32x4.lt (f32x4.abs (local.get $a)) (f32x4.splat (f32.const 3.0e38)))))
      (local.set $a (i32x4.shr_u (i32x4.add (i32x4.splat (i32.const 0x8000)) (local.get $a)) (i32.const 16)))
      (v128.store64_lane 0 (local.get $residual) (i16x8.narrow_i32x4_u (local.get $a) (local.get $a)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (local.set $out (i32.add (local.get $out) (i32.const 4)))
      (local.set $residual (i32.add (local.get $residual) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $from) (local.get $end)))))

  ;; int8 back to floats
  (func (export "decodeInt8") (param $to i32) (param $scales i32) (param $in i32) (param $blocks i32)
    (local $end i32) (local $s v128) (local $half v128)
    (block $done (loop $block
      (br_if $done (i32.eqz (local.get $blocks)))
      (local.set $s (v128.load32_splat (local.get $scales)))
      (local.set $end (i32.add (local.get $to) (i32.const 1024)))
      (loop $next
        (local.set $half (i16x8.extend_low_i8x16_s (v128.load64_zero (local.get $in))))
        (v128.store (local.get $to) (f32x4.mul (local.get $s)
          (f32x4.convert_i32x4_s (i32x4.extend_low_i16x8_s (local.get $half)))))
        (v128.store offset=16 (local.get $to) (f32x4.mul (local.get $s)
          (f32x4.convert_i32x4_s (i32x4.extend_high_i16x8_s (local.get $half)))))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (local.set $in (i32.add (local.get $in) (i32.const 8)))
        (br_if $next (i32.lt_u (local.get $to) (local.get $end))))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $blocks (i32.sub (local.get $blocks) (i32.const 1)))
      (br $block))))

  ;; to[i] = decoded + to[i] * weight
  (func (export "addInt8")
    (param $to i32) (param $weight f32) (param $scales i32) (param $in i32) (param $blocks i32)
    (local $end i32) (local $s v128) (local $w v128) (local $half v128)
    (local.set $w (f32x4.splat (local.get $weight)))
    (block $done (loop $block
      (br_if $done (i32.eqz (local.get $blocks)))
      (local.set $s (v128.load32_splat (local.get $scales)))
      (local.set $end (i32.add (local.get $to) (i32.const 1024)))
      (loop $next
        (local.set $half (i16x8.extend_low_i8x16_s (v128.load64_zero (local.get $in))))
        (v128.store (local.get $to) (f32x4.add
          (f32x4.mul (local.get $s) (f32x4.convert_i32x4_s (i32x4.extend_low_i16x8_s (local.get $half))))
          (f32x4.mul (v128.load (local.get $to)) (local.get $w))))
        (v128.store offset=16 (local.get $to) (f32x4.add
          (f32x4.mul (local.get $s) (f32x4.convert_i32x4_s (i32x4.extend_high_i16x8_s (local.get $half))))
          (f32x4.mul (v128.load offset=16 (local.get $to)) (local.get $w))))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (local.set $in (i32.add (local.get $in) (i32.const 8)))
        (br_if $next (i32.lt_u (local.get $to) (local.get $end))))
      (local.set $scales (i32.add (local.get $scales) (i32.const 4)))
      (local.set $blocks (i32.sub (local.get $blocks) (i32.const 1)))
      (br $block))))
)
