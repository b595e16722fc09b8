/** A process of its own that computes one product with WebGPU: exits with 0, or tells its parent why not. */
import { createOnnxWebgpuEngine } from './onnx-webgpu.ts'

try {
  const engine = await createOnnxWebgpuEngine({ threads: 1 })
  await engine.close()
} catch (error) {
  process.send?.(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
process.disconnect()
