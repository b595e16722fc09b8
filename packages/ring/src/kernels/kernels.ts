/** The WebAssembly module of kernels.wat with types: compiled once, one instance and one memory per user. */
import { KERNELS_BASE64 } from './kernels-wasm.ts'

/** What kernels.wat exports; addresses are bytes into the instance's memory. */
export interface Kernels {
  accumulate(to: number, part: number, weight: number, count: number): void
  scale(to: number, factor: number, count: number): void
  divide(to: number, divisor: number, count: number): void
  weigh(to: number, weight: number, residual: number, count: number): void
  encodeBf16(out: number, from: number, count: number): void
  decodeBf16(to: number, from: number, count: number): void
  addBf16(to: number, weight: number, from: number, count: number): void
  encodeInt8(scales: number, out: number, from: number, blocks: number): void
  encodeInt8Keeping(
    scales: number,
    out: number,
    from: number,
    residual: number,
    unit: number,
    blocks: number,
  ): void
  decodeInt8(to: number, scales: number, from: number, blocks: number): void
  addInt8(to: number, weight: number, scales: number, from: number, blocks: number): void
}

/** The part of the WebAssembly JavaScript interface in use; TypeScript has its types only in the browser's library. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer }
  readonly Instance: new (module: object, imports: object) => { readonly exports: object }
}

const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi }
const PAGE_BYTES = 65_536
let compiled: object | null = null

/** Kernels over a fresh memory of at least `bytes`. */
export function openKernels(bytes: number): { kernels: Kernels; memory: ArrayBuffer } {
  compiled ??= new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'))
  const pages = Math.ceil(bytes / PAGE_BYTES)
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } })
  // The module is our own, built from kernels.wat; test/kernels.test.ts runs each of its functions.
  return { kernels: exports as Kernels, memory: memory.buffer }
}
