/**
 * Loads TensorFlow.js at run time: the native library where one is installed, else the pure JavaScript one. None of
 * them is a dependency of this package: they are optional peers, and nothing is loaded unless engine tfjs is asked for.
 */
import { createRequire } from 'node:module'
import type * as tensorflow from '@tensorflow/tfjs-core'
import { GspoError } from '../errors.ts'

/** The part of TensorFlow.js that the interpreter uses; the native packages export the same. */
export type Tf = typeof tensorflow

/** A library that is loaded and ready. */
export interface TfLibrary {
  readonly tf: Tf
  /** Package that computes. */
  readonly name: string
  /** What it computes on, in words. */
  readonly device: string
  /** False for WebAssembly and JavaScript: one thread. */
  readonly isNative: boolean
}

/** Native packages, the one for GPUs first. */
export const NATIVE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const

/** The JavaScript library and its backend. */
export const SCRIPT_PACKAGES = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-cpu'] as const

/** The same compiled to WebAssembly: one thread with vector instructions. */
export const WASM_PACKAGE = '@tensorflow/tfjs-backend-wasm'

/** How a package is imported; tests stand in broken ones. */
export type ImportPackage = (name: string) => Promise<unknown>

/**
 * The best library that is installed. Throws ENGINE_UNAVAILABLE where none is, and where a native one is installed but
 * does not load: computing a hundred times slower without a word would be worse.
 */
export async function loadTensorflow(
  options: { threads: number },
  importPackage: ImportPackage = (name) => import(name),
): Promise<TfLibrary> {
  mendNode()
  // TensorFlow reads it when it makes its first device; a value of the operator's own wins.
  process.env['TF_NUM_INTRAOP_THREADS'] ??= String(options.threads)
  for (const name of NATIVE_PACKAGES) {
    const tf = await importIfInstalled(name, importPackage)
    if (tf !== undefined) return startNative(tf, name)
  }
  const [core, backend] = SCRIPT_PACKAGES
  const tf = await importIfInstalled(core, importPackage)
  if (tf !== undefined && (await importIfInstalled(WASM_PACKAGE, importPackage)) !== undefined)
    return startScript(tf, WASM_PACKAGE, 'wasm', 'WebAssembly, one thread')
  if (tf === undefined || (await importIfInstalled(backend, importPackage)) === undefined)
    throw new GspoError(
      'ENGINE_UNAVAILABLE',
      `engine tfjs needs TensorFlow.js, which is not installed: npm install ${NATIVE_PACKAGES[0]} (CUDA) or ${NATIVE_PACKAGES[1]} (CPU); npm install ${core} ${WASM_PACKAGE} for trying it out without native code`,
    )
  return startScript(tf, core, 'cpu', 'JavaScript, one thread')
}

/**
 * The native packages are older than Node 23 and call functions of `node:util` at every operation: one is
 * gone, the other prints a warning.
 */
function mendNode(): void {
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined
  util['isArray'] = Array.isArray
}

async function importIfInstalled(name: string, importPackage: ImportPackage): Promise<Tf | undefined> {
  try {
    const loaded = (await importPackage(name)) as { default?: unknown }
    // CommonJS: everything is on the default export, and only what a lexer found beside it.
    return (loaded.default ?? loaded) as Tf
  } catch (cause) {
    if (isAbsent(cause, name)) return undefined
    throw broken(name, cause)
  }
}

function isAbsent(cause: unknown, name: string): boolean {
  return (
    cause instanceof Error &&
    'code' in cause &&
    cause.code === 'ERR_MODULE_NOT_FOUND' &&
    cause.message.includes(`'${name}'`)
  )
}

async function startNative(tf: Tf, name: string): Promise<TfLibrary> {
  try {
    tf.env().set('PROD', true)
    await tf.setBackend('tensorflow')
    checkProduct(tf)
  } catch (cause) {
    throw broken(name, cause)
  }
  const { isUsingGpuDevice } = tf.backend() as { isUsingGpuDevice?: boolean }
  return { tf, name, device: isUsingGpuDevice === true ? 'CUDA' : 'CPU, native', isNative: true }
}

async function startScript(tf: Tf, name: string, backend: string, device: string): Promise<TfLibrary> {
  try {
    // Keeps it from printing its own advice to install the native package: the caller says so in its log.
    tf.env().set('PROD', true)
    if (!(await tf.setBackend(backend))) throw new Error(`its backend ${backend} does not start`)
    checkProduct(tf)
  } catch (cause) {
    throw broken(name, cause)
  }
  return { tf, name, device, isNative: false }
}

/** A library whose device does not work shows here and not at the first step. */
function checkProduct(tf: Tf): void {
  const seen = tf.tidy(() =>
    tf
      .matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.eye(2))
      .dataSync()
      .join(),
  )
  if (seen !== '1,2,3,4') throw new Error(`a matrix times the identity came out as ${seen}, expected 1,2,3,4`)
}

function broken(name: string, cause: unknown): GspoError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new GspoError(
    'ENGINE_UNAVAILABLE',
    `${name} is installed but does not work here: ${reason}. Install it again (npm rebuild ${name}), remove it (npm uninstall ${name}), or use engine onnx-cpu`,
    { cause },
  )
}
