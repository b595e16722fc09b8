/**
 * The engine on TensorFlow.js: the native library where an operator installed it, else its JavaScript backend, which
 * computes the same and is slow. A run blocks the thread it is called on.
 */
import { loadTensorflow, type ImportPackage } from '../tfjs/library.ts'
import { WeightStore } from '../tfjs/weights.ts'
import type { Engine } from './engine.ts'
import { compileTfjs } from './tfjs-session.ts'

/** An engine; throws ENGINE_UNAVAILABLE where TensorFlow.js is missing or broken. */
export async function createTfjsEngine(
  options: { threads: number },
  importPackage?: ImportPackage,
): Promise<Engine> {
  const { tf } = await loadTensorflow(options, importPackage)
  const weights = new WeightStore(tf)
  return {
    name: 'tfjs',
    // Both layouts are one here: weights are copied into the library's memory, once for all sessions.
    compile: (graph) => compileTfjs(tf, graph, weights),
    close: () => weights.dispose(),
  }
}
