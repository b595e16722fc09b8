/** Loads ONNX Runtime's library, and says what to do where it is missing or does not load. */
import type * as ort from 'onnxruntime-node'
import { GspoError } from '../errors.ts'

/** ONNX Runtime's package. */
export const ONNX_RUNTIME = 'onnxruntime-node'

/** How the package is imported; tests stand in broken ones. */
export type ImportRuntime = () => Promise<typeof ort>

/** The library. Throws ENGINE_UNAVAILABLE where it is not installed, or installed and broken. */
export async function loadOnnxRuntime(
  importRuntime: ImportRuntime = () => import('onnxruntime-node'),
): Promise<typeof ort> {
  try {
    return await importRuntime()
  } catch (cause) {
    throw unavailable(cause)
  }
}

/** What is told of a failed import or look-up of the package. */
export function unavailable(cause: unknown): GspoError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  // CommonJS adds the files that asked for it.
  const [what = reason] = reason.split('\nRequire stack:')
  const isAbsent = /^Cannot find (?:module|package) 'onnxruntime-node(?:\/package\.json)?'/.test(what)
  return new GspoError(
    'ENGINE_UNAVAILABLE',
    isAbsent
      ? `${ONNX_RUNTIME} is not installed: npm install ${ONNX_RUNTIME} --onnxruntime-node-install=skip`
      : `${ONNX_RUNTIME} is installed but does not load here: ${what.trim()}. Its library is for glibc on Linux (not Alpine's musl), macOS and Windows; remove node_modules/${ONNX_RUNTIME} and install it again`,
    { cause },
  )
}
