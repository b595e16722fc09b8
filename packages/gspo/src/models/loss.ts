/** The GSPO and GRPO losses (arXiv 2507.18071, 2402.03300; TRL's names) as a graph over log-probabilities. */
import type { Dim } from '../graph/dims.ts'
import type { GraphBuilder } from '../graph/graph.ts'
import type { Tensor } from '../graph/ops.ts'
import type { LossConfig } from '../policy-types.ts'

/** What changes the shape of the loss graph; numbers are inputs. */
export interface LossVariant {
  readonly level: LossConfig['importance_sampling_level']
  readonly form: 'clipped' | 'cispo' | 'sapo'
  readonly kl: 'none' | 'plain' | 'corrected'
}

/** The variant of a configuration. */
export function lossVariant(config: LossConfig): LossVariant {
  const form = config.loss_type === 'cispo' || config.loss_type === 'sapo' ? config.loss_type : 'clipped'
  const kl = config.beta === 0 ? 'none' : config.use_bias_correction_kl ? 'corrected' : 'plain'
  return { level: config.importance_sampling_level, form, kl }
}

/** Names of the scalar inputs, in the order of `lossScalars`. */
const SCALARS = ['lower', 'upper', 'ceiling', 'beta'] as const

/** Values of the loss's scalar inputs. */
export function lossScalars(config: LossConfig): Record<(typeof SCALARS)[number], number> {
  const isCispo = config.loss_type === 'cispo'
  return {
    lower: 1 - config.epsilon,
    // CISPO clamps at epsilon_high itself, as TRL does.
    upper: isCispo ? config.epsilon_high : 1 + config.epsilon_high,
    ceiling: config.delta ?? NO_CEILING,
    beta: config.beta,
  }
}

/** Larger than any ratio, yet finite in float32. */
const NO_CEILING = 3e38

/**
 * The loss, a scalar, from log-probabilities [B, C]. Inputs it declares: old_logps, ref_logps (with KL),
 * token_weights, sequence_weights [B, C], advantages, slopes (sapo) [B, 1] and the scalars.
 * token_weights carry the mask and the aggregation; sequence_weights are mask / length.
 */
export function lossGraph(g: GraphBuilder, logps: Tensor, variant: LossVariant): Tensor {
  const [rows, columns] = logps.shape as [Dim, Dim]
  const perToken = (name: string): Tensor => g.input(name, [rows, columns])
  const scalar = (name: (typeof SCALARS)[number]): Tensor => g.input(name, [])
  const advantages = g.input('advantages', [rows, 1])

  const logRatio = g.sub(logps, perToken('old_logps'))
  const ratio = g.unary('exp', levelRatio(g, logps, logRatio, variant.level))
  let loss = policyTerm()
  if (variant.kl !== 'none') {
    const difference = g.sub(perToken('ref_logps'), logps)
    const k3 = g.sub(g.sub(g.unary('exp', difference), difference), g.constant(1))
    const term = variant.kl === 'corrected' ? g.mul(k3, ratio) : k3
    loss = g.add(loss, g.mul(term, scalar('beta')))
  }
  return g.sum(g.mul(perToken('token_weights'), loss), [0, 1])

  function policyTerm(): Tensor {
    switch (variant.form) {
      case 'clipped': {
        const clipped = g.binary('max', g.binary('min', ratio, scalar('upper')), scalar('lower'))
        const free = g.binary('min', ratio, scalar('ceiling'))
        return g.unary('neg', g.binary('min', g.mul(free, advantages), g.mul(clipped, advantages)))
      }
      case 'cispo': {
        const clamped = g.stopGradient(g.binary('min', ratio, scalar('upper')))
        return g.unary('neg', g.mul(g.mul(clamped, advantages), logps))
      }
      case 'sapo': {
        const slopes = g.input('slopes', [rows, 1])
        const gate = g.unary('sigmoid', g.mul(slopes, g.sub(ratio, g.constant(1))))
        return g.unary('neg', g.mul(g.div(g.mul(gate, g.constant(4)), slopes), advantages))
      }
    }
  }
}

/** The logarithm of the importance ratio: [B, 1] for a sequence, [B, C] for tokens. */
function levelRatio(g: GraphBuilder, logps: Tensor, logRatio: Tensor, level: LossVariant['level']): Tensor {
  if (level === 'token') return logRatio
  const sequence = g.sum(g.mul(logRatio, g.input('sequence_weights', logps.shape)), [1], true)
  if (level === 'sequence') return sequence
  return g.add(g.stopGradient(sequence), g.sub(logps, g.stopGradient(logps)))
}
