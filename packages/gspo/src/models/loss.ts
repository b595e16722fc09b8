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
  /** On policy: the old log-probabilities are the new ones, held fixed, so that every ratio is 1. */
  readonly isOnPolicy: boolean
  /** Whether the load-balancing loss of mixture-of-experts models is added. */
  readonly isBalanced: boolean
}

/** The variant of a configuration. */
export function lossVariant(config: LossConfig, isOnPolicy: boolean): LossVariant {
  const form = config.loss_type === 'cispo' || config.loss_type === 'sapo' ? config.loss_type : 'clipped'
  const kl = config.beta === 0 ? 'none' : config.use_bias_correction_kl ? 'corrected' : 'plain'
  return {
    level: config.importance_sampling_level,
    form,
    kl,
    isOnPolicy,
    isBalanced: config.router_aux_loss_coef !== 0,
  }
}

/** Numbers that every loss graph takes as scalar inputs. */
export type LossScalars = {
  readonly lower: number
  readonly upper: number
  readonly ceiling: number
  readonly beta: number
}

/** Values of the loss's scalar inputs. */
export function lossScalars(config: LossConfig): LossScalars {
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
 * The loss, a scalar, from log-probabilities [B, C]. Inputs it declares: old_logps (off policy), ref_logps (with KL),
 * token_weights, sequence_weights [B, C], advantages, slopes (sapo) [B, 1] and the scalars.
 * token_weights carry the mask and the aggregation; sequence_weights are mask / length.
 */
export function lossGraph(g: GraphBuilder, logps: Tensor, variant: LossVariant): Tensor {
  const [rows, columns] = logps.shape as [Dim, Dim]
  const perToken = (name: string): Tensor => g.input(name, [rows, columns])
  const scalar = (name: keyof LossScalars): Tensor => g.input(name, [])
  const advantages = g.input('advantages', [rows, 1])

  const old = variant.isOnPolicy ? g.stopGradient(logps) : perToken('old_logps')
  const logRatio = g.sub(logps, old)
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
