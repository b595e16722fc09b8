/** Which engine `auto` means: a GPU where it pays, else the processor, which every machine has. Pure. */
import { GPU_LEAST_PARAMETERS } from '../defaults.ts'
import type { GpuSearch } from './gpu.ts'

/** What is to run. */
export interface EngineDemand {
  /** Frozen weights of the model. */
  readonly parameters: number
  readonly hasExperts: boolean
  /** What weights and activations take on the engine. */
  readonly bytes: number
}

/** An engine and why, for the log. */
export interface EngineChoice {
  readonly engine: 'onnx-cpu' | 'onnx-webgpu'
  readonly reason: string
  /** Whether the machine has a GPU that would pay and cannot be used. */
  readonly isGpuIdle: boolean
}

/** Why a model belongs on the processor whatever GPU there is, or null: then it is worth looking for one. */
export function reasonForProcessor({ parameters, hasExperts }: EngineDemand): string | null {
  if (parameters < GPU_LEAST_PARAMETERS)
    return `${millions(parameters)} parameters are quicker on the processor; a GPU pays from ${millions(GPU_LEAST_PARAMETERS)}`
  if (hasExperts) return 'a mixture of experts sends its tokens on the processor, layer by layer'
  return null
}

/** Decides for a model that `reasonForProcessor` has nothing against. */
export function chooseEngine(demand: EngineDemand, gpu: GpuSearch): EngineChoice {
  if (gpu.name === null) return { engine: 'onnx-cpu', reason: gpu.reason, isGpuIdle: gpu.isIdle }
  if (gpu.memoryBytes !== null && gpu.memoryBytes < demand.bytes)
    return {
      engine: 'onnx-cpu',
      reason: `the model needs about ${gigabytes(demand.bytes)} GB, ${gpu.name} has ${gigabytes(gpu.memoryBytes)} GB`,
      isGpuIdle: false,
    }
  return { engine: 'onnx-webgpu', reason: `${gpu.name} computes`, isGpuIdle: false }
}

function millions(count: number): string {
  return `${(count / 1e6).toFixed(1).replace(/\.0$/, '')} million`
}

function gigabytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1)
}
