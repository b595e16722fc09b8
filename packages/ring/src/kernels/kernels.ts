/** The WebAssembly module of the kernels with types: compiled once, one instance and one memory per user. */
import { KERNELS_BASE64 } from './kernels-wasm.ts'

/** Own values, their weight, where wire bytes go, count (a multiple of 16). */
type Send<R> = (own: number, weight: number, out: number, count: number) => R
/** The same, and the wire bytes that came. */
type Pass<R> = (own: number, weight: number, out: number, count: number, came: number) => R
/** The same, where the mean goes (`f32`: not used, it is what goes to `out`) and the divisor or its inverse. */
type Mean<R> = (
  own: number,
  weight: number,
  out: number,
  count: number,
  came: number,
  result: number,
  by: number,
) => R

/** Own values, their weight, residual, where the new residual goes and its unit, scales, codes, count of blocks. */
type SendInt8 = (
  own: number,
  weight: number,
  residual: number,
  kept: number,
  unit: number,
  scales: number,
  codes: number,
  blocks: number,
  ...more: readonly number[]
) => void

/** What scripts/kernels exports; addresses are bytes into the instance's memory, whose first `BLOCK_BYTES` are its own. */
export interface Kernels {
  readonly sendF32: Send<void>
  readonly passF32: Pass<void>
  readonly productF32: Mean<void>
  readonly quotientF32: Mean<void>
  /** not 0: there was a NaN, do it again carefully */
  readonly sendBf16: Send<number>
  readonly passBf16: Pass<number>
  readonly productBf16: Mean<number>
  readonly quotientBf16: Mean<number>
  readonly sendBf16Careful: Send<number>
  readonly passBf16Careful: Pass<number>
  readonly productBf16Careful: Mean<number>
  readonly quotientBf16Careful: Mean<number>
  readonly decodeBf16: (result: number, codes: number, count: number) => void
  readonly sendInt8: SendInt8
  /** more: scales and codes that came */
  readonly passInt8: SendInt8
  /** more: scales and codes that came, where the mean goes, the divisor or its inverse */
  readonly productInt8: SendInt8
  readonly quotientInt8: SendInt8
  readonly decodeInt8: (result: number, scales: number, codes: number, blocks: number) => void
}

/** The front of the memory, where the kernels of `int8` put a block of values between computing and coding it. */
export const BLOCK_BYTES = 1024

/** The part of the WebAssembly JavaScript interface in use; TypeScript has its types only in the browser's library. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
  readonly Instance: new (module: object, imports: object) => { readonly exports: object }
}

const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi }
const PAGE_BYTES = 65_536

/** What addresses of 32 bits reach. */
export const MAX_MEMORY_BYTES = 65_536 * PAGE_BYTES
let compiled: object | null = null

/** Kernels over a fresh memory of at least `bytes`; it costs only what is written to. Throws RangeError without room. */
export function openKernels(bytes: number): { kernels: Kernels; memory: ArrayBuffer } {
  compiled ??= new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'))
  const pages = Math.ceil(bytes / PAGE_BYTES)
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } })
  // The module is our own, built by scripts/build-kernels.ts; test/kernels.test.ts runs each of its functions.
  return { kernels: exports as Kernels, memory: memory.buffer }
}
