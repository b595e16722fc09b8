/** What the configured engine is on this machine, without loading a model: for a look before the start. */
import type { ResolvedConfig } from '../config.ts'
import { GspoError } from '../errors.ts'
import { engineDemand } from '../memory.ts'
import { readModelConfig } from '../models/config.ts'
import { openCheckpoint } from '../weights/checkpoint.ts'
import { createEngine } from './create.ts'
import type { EngineNote } from './engine.ts'
import { judgeDevice, probe } from './gpu.ts'

/** The part of a configuration that matters here. */
export type EngineSettings = Pick<
  ResolvedConfig,
  'engine' | 'model' | 'threads' | 'use_4bit' | 'use_8bit_head' | 'quant_block_size' | 'memory_limit_mb'
>

/** What would compute, and why. Throws ENGINE_UNAVAILABLE where it cannot, and for `auto` what loading the model throws. */
export async function examineEngine(settings: EngineSettings): Promise<EngineNote> {
  const { engine: name, threads } = settings
  if (name === 'onnx-webgpu') return examineWebgpu()
  const demand = name === 'auto' ? { demand: await demandOf(settings) } : {}
  const engine = await createEngine(name, { threads, ...demand })
  await engine.close()
  return engine.note
}

/** In a child process, since a driver that does not work may end the process that tries it. */
async function examineWebgpu(): Promise<EngineNote> {
  const { name, failure } = await probe()
  if (failure !== null) throw new GspoError('ENGINE_UNAVAILABLE', failure)
  const device = judgeDevice(name, null)
  return device.name === null
    ? { text: `onnx-webgpu: ${device.reason}`, isWarning: true }
    : { text: `onnx-webgpu: ${device.name} computes`, isWarning: false }
}

async function demandOf(settings: EngineSettings): Promise<ReturnType<typeof engineDemand>> {
  const config = await readModelConfig(settings.model)
  const { parameters } = await openCheckpoint(settings.model)
  const limitBytes = settings.memory_limit_mb === undefined ? undefined : settings.memory_limit_mb * 2 ** 20
  const { use_4bit: use4bit, use_8bit_head: use8bitHead, quant_block_size: quantBlock } = settings
  return engineDemand({ config, parameters, use4bit, use8bitHead, quantBlock, limitBytes })
}
