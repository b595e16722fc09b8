/**
 * The outer update: how the ring's mean delta moves the shared adapter. Pure, and the same bytes on every node,
 * since each operation rounds to float32 in the same order.
 */

/** `average` adds the mean delta; `nesterov` is the outer optimiser of DiLoCo (arXiv 2311.08105). */
export interface OuterConfig {
  readonly kind: 'average' | 'nesterov'
  readonly learningRate: number
  readonly momentum: number
}

/** Momentum before the first round; empty when none is kept. */
export function initialMomentum(config: OuterConfig, length: number): Float32Array {
  return new Float32Array(config.kind === 'nesterov' ? length : 0)
}

/**
 * The adapter and momentum after a round; fresh memory, the inputs are untouched. With mean delta d:
 * average: a + d. Nesterov, as torch.optim.SGD on the gradient -d: m = mu m + d, a + lr (d + mu m).
 */
export function outerUpdate(
  config: OuterConfig,
  adapter: Float32Array,
  momentum: Float32Array,
  meanDelta: Float32Array,
): { adapter: Float32Array; momentum: Float32Array } {
  const next = new Float32Array(adapter.length)
  if (config.kind === 'average') {
    for (let i = 0; i < next.length; i++) next[i] = (adapter[i] ?? 0) + (meanDelta[i] ?? 0)
    return { adapter: next, momentum: new Float32Array(0) }
  }
  const moved = new Float32Array(adapter.length)
  for (let i = 0; i < next.length; i++) {
    const delta = meanDelta[i] ?? 0
    const kept = Math.fround(config.momentum * (momentum[i] ?? 0) + delta)
    moved[i] = kept
    next[i] = (adapter[i] ?? 0) + config.learningRate * (delta + config.momentum * kept)
  }
  return { adapter: next, momentum: moved }
}
