/** A model whose every weight is trained, for making small models from nothing; the policy trains adapters only. */
import { checkBatch, packBatch, splitRows } from './batch.ts'
import type { Feed, Session } from './engine/engine.ts'
import { createOnnxCpuEngine } from './engine/onnx-cpu.ts'
import { GspoError } from './errors.ts'
import { readModelConfig } from './models/config.ts'
import { fullGraph, fullLayout, WEIGHTS_INPUT, type FullLayout } from './models/full-graph.ts'
import { createRopeCache } from './models/rope.ts'
import type { BatchShape } from './models/training-graph.ts'
import type { TokenBatch } from './policy-types.ts'

export type { FullLayout, FullTensor } from './models/full-graph.ts'

/** The mean cross-entropy over a batch's completion tokens, and its gradient. */
export interface CrossEntropy {
  /** Nats a token. */
  readonly loss: number
  /** Completion tokens that were counted. */
  readonly tokens: number
  /** Flat, in the layout's order. */
  readonly gradient: Float32Array
}

/** All weights of a model as one trainable vector; zeros until `setWeights`. One call at a time. */
export interface FullModel {
  readonly layout: FullLayout
  /** Copies `values`; throws BAD_ADAPTER on a wrong length. */
  setWeights(values: Float32Array): void
  crossEntropyAndGradient(batch: TokenBatch): Promise<CrossEntropy>
  close(): Promise<void>
}

/** Builds the model that a folder's config.json describes; its weight files are not read. Throws as `loadPolicy`. */
export async function loadFullModel(options: { modelDir: string; threads: number }): Promise<FullModel> {
  const config = await readModelConfig(options.modelDir)
  const layout = fullLayout(config)
  const engine = createOnnxCpuEngine({ threads: options.threads })
  const sessions = new Map<string, Promise<Session>>()
  const sessionFor = (shape: BatchShape): Promise<Session> => {
    const key = JSON.stringify(shape)
    const session =
      sessions.get(key) ?? engine.compile(fullGraph(config, layout, shape), { weights: 'share' })
    sessions.set(key, session)
    return session
  }
  const weights: Feed = { dims: [layout.length], values: new Float32Array(layout.length) }
  const rope = createRopeCache(config)
  return {
    layout,
    setWeights: (values) => {
      if (values.length !== layout.length)
        throw new GspoError('BAD_ADAPTER', `${values.length} weights, this model has ${layout.length}`)
      weights.values.set(values)
    },
    crossEntropyAndGradient: async (batch) => {
      checkBatch(batch, config.vocabSize)
      const tokens = batch.completionMask.reduce((sum, mask) => sum + mask, 0)
      const gradient = new Float32Array(layout.length)
      let loss = 0
      for (const part of splitRows(batch)) {
        const packed = packBatch(batch, {
          ...part,
          isWhole: config.moe !== null,
          headParts: () => 1,
          windows: config.windows,
          isChunked: config.linear !== null,
        })
        const scored = packed.slots.length
        if (scored === 0) continue
        const session = await sessionFor(packed.shape)
        const out = await session.run({
          ...packed.feeds,
          ...rope(packed.positions),
          [WEIGHTS_INPUT]: weights,
          inverse_temperature: { dims: [], values: Float32Array.of(1) },
          token_weights: { dims: [scored], values: new Float32Array(scored).fill(1 / tokens) },
        })
        loss += out['loss']?.values[0] ?? NaN
        const values = out['gradient']?.values ?? new Float32Array(0)
        for (let i = 0; i < gradient.length; i++) gradient[i] += values[i] ?? NaN
      }
      return { loss, tokens, gradient }
    },
    close: async () => {
      for (const session of sessions.values()) await (await session).close()
      await engine.close()
    },
  }
}
