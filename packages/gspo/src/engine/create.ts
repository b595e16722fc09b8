/** Engines by name. */
import type { EngineName } from '../policy-types.ts'
import type { Engine } from './engine.ts'
import { createOnnxCpuEngine } from './onnx-cpu.ts'
import { createOnnxWebgpuEngine } from './onnx-webgpu.ts'
import { createTfjsEngine } from './tfjs.ts'

/** The engine of this name; throws ENGINE_UNAVAILABLE where this machine cannot run it. */
export async function createEngine(name: EngineName, options: { threads: number }): Promise<Engine> {
  switch (name) {
    case 'auto':
    case 'onnx-cpu':
      return createOnnxCpuEngine(options)
    case 'onnx-webgpu':
      return createOnnxWebgpuEngine(options)
    case 'tfjs':
      return createTfjsEngine(options)
  }
}
