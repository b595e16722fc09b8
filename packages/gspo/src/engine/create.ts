/** Engines by name, and the one that `auto` means. */
import { GspoError } from '../errors.ts'
import type { EngineName } from '../policy-types.ts'
import { chooseEngine, reasonForProcessor, type EngineDemand } from './choose.ts'
import type { Engine, WeightHolding } from './engine.ts'
import { findGpu, type GpuSearch } from './gpu.ts'
import { createOnnxCpuEngine } from './onnx-cpu.ts'
import { loadOnnxRuntime } from './onnx-runtime.ts'
import { createOnnxWebgpuEngine } from './onnx-webgpu.ts'
import { createTfjsEngine } from './tfjs.ts'

/** How an engine runs; `auto` wants to know what for. */
export interface EngineOptions {
  readonly threads: number
  readonly demand?: EngineDemand
  /** How `auto` looks for a GPU. */
  readonly searchGpu?: () => Promise<GpuSearch>
}

/** The engine of this name; throws ENGINE_UNAVAILABLE where this machine cannot run it. */
export async function createEngine(name: EngineName, options: EngineOptions): Promise<Engine> {
  switch (name) {
    case 'auto':
      return createBestEngine(options)
    case 'onnx-cpu':
      return createLoadedCpuEngine(options)
    case 'onnx-webgpu':
      return createOnnxWebgpuEngine(options)
    case 'tfjs':
      return createTfjsEngine(options)
  }
}

/** How the engine of this name holds frozen weights, known before it is made. */
export function weightsOf(name: EngineName): WeightHolding {
  return name === 'tfjs' ? 'copied' : 'mapped'
}

/** A library that does not load shows here and not at the first step. */
async function createLoadedCpuEngine({ threads }: EngineOptions): Promise<Engine> {
  await loadOnnxRuntime()
  return createOnnxCpuEngine({ threads })
}

/** A GPU where there is one and the model is worth it, else the processor; its note says why. */
async function createBestEngine({ threads, demand, searchGpu = findGpu }: EngineOptions): Promise<Engine> {
  const onProcessor = async (reason: string, isWarning: boolean): Promise<Engine> =>
    withReason(await createLoadedCpuEngine({ threads }), reason, isWarning)
  const reason = demand === undefined ? 'nothing is known of the model' : reasonForProcessor(demand)
  if (demand === undefined || reason !== null) return onProcessor(reason ?? '', false)
  const choice = chooseEngine(demand, await searchGpu())
  if (choice.engine === 'onnx-cpu') return onProcessor(choice.reason, choice.isGpuIdle)
  try {
    return withReason(await createOnnxWebgpuEngine({ threads }), choice.reason, false)
  } catch (error) {
    if (!(error instanceof GspoError) || error.code !== 'ENGINE_UNAVAILABLE') throw error
    return onProcessor(error.message, true)
  }
}

function withReason(engine: Engine, reason: string, isWarning: boolean): Engine {
  return { ...engine, note: { text: `${engine.name}, chosen by auto: ${reason}`, isWarning } }
}
