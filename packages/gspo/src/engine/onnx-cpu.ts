/** The engine on ONNX Runtime's CPU provider. A run blocks the thread it is called on. */
import type { Engine } from './engine.ts'
import { onnxVersions } from '../versions.ts'
import { compileOnnx } from './onnx-session.ts'
import { compileInStages } from './staged-session.ts'

/** An engine with `threads` threads inside one operation. */
export function createOnnxCpuEngine({ threads }: { threads: number }): Engine {
  return {
    name: 'onnx-cpu',
    note: { text: `onnx-cpu, ${threads} ${threads === 1 ? 'thread' : 'threads'}`, isWarning: false },
    versions: onnxVersions(),
    compile: (graph, { weights }) =>
      compileInStages(graph, (part, isStage) =>
        compileOnnx(part, { provider: 'cpu', threads, weights, isStage }),
      ),
    close: async () => {
      // Nothing is held besides the sessions.
    },
  }
}
