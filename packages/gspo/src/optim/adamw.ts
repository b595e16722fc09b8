/** AdamW (arXiv 1711.05101) with PyTorch's semantics, over one flat vector: pure `adamwInit` and `adamwUpdate`. */

/** Hyper-parameters, named as in PyTorch. */
export interface AdamwConfig {
  learningRate: number
  beta1: number
  beta2: number
  /** Added to sqrt(v) after bias correction. */
  epsilon: number
  /** Decoupled: the weight shrinks by learningRate * weightDecay before the step. */
  weightDecay: number
}

/** A slice of the flat vector that counts its own steps: one parameter tensor. */
export interface ParameterRange {
  readonly offset: number
  readonly length: number
}

/** Moments of every element and, as in PyTorch, one step count for each parameter tensor. */
export interface AdamwState {
  readonly firstMoment: Float32Array
  readonly secondMoment: Float32Array
  /** [parameters] */
  readonly steps: Int32Array
}

/** Zero moments for a vector of `length` made of `parameters` tensors. */
export function adamwInit(length: number, parameters: number): AdamwState {
  return {
    firstMoment: new Float32Array(length),
    secondMoment: new Float32Array(length),
    steps: new Int32Array(parameters),
  }
}

/**
 * One step; returns new weights and a new state, the arguments stay as they are.
 * A parameter for which `hasGradient` says false is left alone with its moments and step count, as PyTorch
 * does for `grad is None` (an expert that no token reached).
 */
export function adamwUpdate(
  weights: Float32Array,
  gradient: Float32Array,
  state: AdamwState,
  parameters: readonly ParameterRange[],
  config: AdamwConfig,
  hasGradient: (parameter: number) => boolean = () => true,
): { weights: Float32Array; state: AdamwState } {
  const { learningRate, beta1, beta2, epsilon, weightDecay } = config
  const nextWeights = weights.slice()
  const firstMoment = state.firstMoment.slice()
  const secondMoment = state.secondMoment.slice()
  const steps = state.steps.slice()
  for (const [index, { offset, length }] of parameters.entries()) {
    if (!hasGradient(index)) continue
    const step = (steps[index] ?? 0) + 1
    steps[index] = step
    const stepSize = learningRate / (1 - beta1 ** step)
    const secondCorrection = Math.sqrt(1 - beta2 ** step)
    const shrink = 1 - learningRate * weightDecay
    // Indexed loop over typed arrays: a rank-16 adapter of a 0.6B model has ten million elements.
    for (let i = offset; i < offset + length; i++) {
      const g = gradient[i]
      const m = firstMoment[i] * beta1 + (1 - beta1) * g
      const v = secondMoment[i] * beta2 + (1 - beta2) * g * g
      firstMoment[i] = m
      secondMoment[i] = v
      const denominator = Math.sqrt(v) / secondCorrection + epsilon
      nextWeights[i] = weights[i] * shrink - (stepSize * m) / denominator
    }
  }
  return { weights: nextWeights, state: { firstMoment, secondMoment, steps } }
}
