import { it } from 'node:test'
import { createOnnxWebgpuEngine } from '../src/engine/onnx-webgpu.ts'
import { GspoError } from '../src/errors.ts'
import { engineCompliance } from './engine-compliance.ts'

/** Why there is no engine, or undefined where there is one. */
async function reasonAgainst(): Promise<string | undefined> {
  try {
    await (await createOnnxWebgpuEngine({ threads: 1 })).close()
    return undefined
  } catch (error) {
    if (error instanceof GspoError && error.code === 'ENGINE_UNAVAILABLE') return error.message
    throw error
  }
}

const reason = await reasonAgainst()
if (reason === undefined) engineCompliance('onnx-webgpu', () => createOnnxWebgpuEngine({ threads: 1 }))
else it('engine onnx-webgpu', { skip: reason }, () => undefined)
