/** The engine on ONNX Runtime's WebGPU provider: any GPU with a Vulkan, Metal or Direct3D 12 driver, no CUDA. */
import { GspoError } from '../errors.ts'
import { GraphBuilder } from '../graph/graph.ts'
import { onnxVersions } from '../versions.ts'
import type { Engine } from './engine.ts'
import { loadOnnxRuntime } from './onnx-runtime.ts'
import { compileOnnx, type OnnxSessionOptions } from './onnx-session.ts'

/** Threads for what falls back to the CPU. */
type Options = Pick<OnnxSessionOptions, 'threads'>

/** An engine on the first GPU found; throws ENGINE_UNAVAILABLE where there is none that computes rightly. */
export async function createOnnxWebgpuEngine({ threads }: Options): Promise<Engine> {
  await loadOnnxRuntime()
  const engine: Engine = {
    name: 'onnx-webgpu',
    note: { text: 'onnx-webgpu, the first device that WebGPU found', isWarning: false },
    versions: onnxVersions(),
    compile: (graph, { weights }) => compileOnnx(graph, { provider: 'webgpu', threads, weights }),
    close: async () => {
      // Nothing is held besides the sessions.
    },
  }
  await probe(engine)
  return engine
}

/** Runs one product: a driver that is present and does not work shows here and not at the first step. */
async function probe(engine: Engine): Promise<void> {
  const g = new GraphBuilder()
  const product = g.matmul(g.input('a', [2, 2]), g.input('b', [2, 2]))
  try {
    const session = await engine.compile(g.finish({ product }), { weights: 'share' })
    const matrix = { dims: [2, 2], values: Float32Array.of(1, 2, 3, 4) }
    const seen = await session.run({ a: matrix, b: matrix })
    await session.close()
    // [[1, 2], [3, 4]] squared.
    if (seen['product']?.values.join() !== '7,10,15,22')
      throw new GspoError('ENGINE_FAILED', `a product came out as ${seen['product']?.values.join()}`)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new GspoError(
      'ENGINE_UNAVAILABLE',
      `no GPU that WebGPU can use: ${withoutSourceLine(reason)}. Install the GPU's Vulkan driver, or use engine onnx-cpu`,
      { cause },
    )
  }
}

/** ONNX Runtime puts the failed line of its source before what went wrong. */
function withoutSourceLine(reason: string): string {
  return reason.replace(/^.* was false\. /s, '').trim()
}
