/** The loss graph alone against TRL's `_compute_loss` and autograd: loss, gradient to the log-probabilities, metrics. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { describe, it } from 'node:test'
import type { Feed } from '../../packages/gspo/src/engine/engine.ts'
import { createOnnxCpuEngine } from '../../packages/gspo/src/engine/onnx-cpu.ts'
import { gradients } from '../../packages/gspo/src/graph/gradient.ts'
import { GraphBuilder } from '../../packages/gspo/src/graph/graph.ts'
import { lossFeeds, lossMetrics, lossWeights } from '../../packages/gspo/src/loss-terms.ts'
import { lossGraph, lossVariant } from '../../packages/gspo/src/models/loss.ts'
import type { LossBatch, LossConfig } from '../../packages/gspo/src/policy-types.ts'
import { assertClose, GOLDEN_DIR, readJson, Tensors } from './golden.ts'

interface LossHeadCase {
  config: Omit<LossConfig, 'temperature' | 'router_aux_loss_coef'>
  old: string
  gradient_accumulation_steps: number
  empty_row: number | null
  loss: number
  metrics: Record<string, number>
}

/** golden/README.md: losses 2e-6 absolute; gradients 1e-4 of the largest. */
const LOSS_TOLERANCE = 2e-6
const GRADIENT_TOLERANCE = 1e-4

const isPresent = existsSync(path.join(GOLDEN_DIR, 'loss-head', 'loss_head.json'))

describe('loss head', { skip: isPresent ? false : 'this golden set has no loss-head' }, () => {
  if (!isPresent) return
  const { B, C, cases } = readJson<{ B: number; C: number; cases: Record<string, LossHeadCase> }>(
    'loss-head',
    'loss_head.json',
  )
  const golden = new Tensors('loss-head', 'loss_head.safetensors')
  const engine = createOnnxCpuEngine({ threads: 1 })

  for (const [name, expected] of Object.entries(cases))
    it(`${name}: loss, gradient and metrics are TRL's`, async () => {
      const config: LossConfig = { ...expected.config, temperature: 1, router_aux_loss_coef: 0 }
      const completionMask = golden.ints('in/mask').slice()
      const { empty_row: emptyRow } = expected
      if (emptyRow !== null) completionMask.fill(0, emptyRow * C, (emptyRow + 1) * C)
      const logps = golden.floats('in/logps')
      const batch: LossBatch = {
        rows: B,
        promptLength: 0,
        completionLength: C,
        promptIds: new Int32Array(0),
        promptMask: new Int32Array(0),
        completionIds: new Int32Array(B * C),
        completionMask,
        advantages: golden.floats('in/advantages'),
        oldLogps: golden.has(`in/${expected.old}`) ? golden.floats(`in/${expected.old}`) : null,
        refLogps: golden.floats('in/ref'),
      }

      const g = new GraphBuilder()
      const input = g.input('logps', ['B', 'L'])
      const loss = lossGraph(g, input, lossVariant(config, batch.oldLogps === null))
      const [gradient] = gradients(g, loss, [input])
      assert.ok(gradient)
      const session = await engine.compile(g.finish({ loss, gradient }), { weights: 'share' })
      const feed: Feed = { dims: [B, C], values: logps }
      const weights = lossWeights(batch, config)
      const out = await session.run({
        logps: feed,
        ...lossFeeds(batch, { firstRow: 0, rows: B }, config, weights),
      })
      await session.close()

      const steps = expected.gradient_accumulation_steps
      const seenLoss = (out['loss']?.values[0] ?? NaN) / steps
      assertClose([seenLoss], [expected.loss], LOSS_TOLERANCE, 'loss')
      const seenGradient = out['gradient']?.values.map((value) => value / steps) ?? []
      const expectedGradient = golden.floats(`${name}/dloss_dlogps`)
      const largest = expectedGradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      assertClose(seenGradient, expectedGradient, GRADIENT_TOLERANCE * largest, 'gradient')

      const seen = lossMetrics(batch, config, { logps, entropies: new Float32Array(B * C) })
      const named: Record<string, number> = {
        'clip_ratio/low_mean': seen.clipRatioLow,
        'clip_ratio/high_mean': seen.clipRatioHigh,
        kl: seen.kl,
      }
      for (const [key, value] of Object.entries(named))
        if (expected.metrics[key] !== undefined) assertClose([value], [expected.metrics[key]], 1e-5, key)
    })
})
