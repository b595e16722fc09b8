/**
 * The engine on TensorFlow.js: the native library where an operator installed it, else its JavaScript backend, which
 * computes the same and is slow. A run blocks the thread it is called on.
 */
import { loadTensorflow, NATIVE_PACKAGES, type ImportPackage, type TfLibrary } from '../tfjs/library.ts'
import { WeightStore } from '../tfjs/weights.ts'
import type { Engine, EngineNote } from './engine.ts'
import { compileTfjs } from './tfjs-session.ts'

/** An engine; throws ENGINE_UNAVAILABLE where TensorFlow.js is missing or broken. */
export async function createTfjsEngine(
  options: { threads: number },
  importPackage?: ImportPackage,
): Promise<Engine> {
  const library = await loadTensorflow(options, importPackage)
  const { tf } = library
  const weights = new WeightStore(tf)
  return {
    name: 'tfjs',
    note: noteOf(library),
    versions: { [library.name]: tf.version_core },
    // Both layouts are one here: weights are copied into the library's memory, once for all sessions.
    compile: (graph) => compileTfjs(tf, graph, weights),
    close: () => weights.dispose(),
  }
}

function noteOf({ name, device, isNative }: TfLibrary): EngineNote {
  const text = `tfjs, ${name} (${device})`
  if (isNative) return { text, isWarning: false }
  return {
    text: `${text}: many times slower than native code, meant for trying out and checking; npm install ${NATIVE_PACKAGES.join(' or ')}, or use engine onnx-cpu`,
    isWarning: true,
  }
}
