/** The gradient's norm and its clipping by norm, as torch.nn.utils.clip_grad_norm_ does it. */

/** Added to the norm before dividing; torch's value. */
const NORM_FLOOR = 1e-6

/** Euclidean norm, summed in double precision. */
export function gradientNorm(gradient: Float32Array): number {
  let squares = 0
  for (let i = 0; i < gradient.length; i++) {
    const value = gradient[i] ?? 0
    squares += value * value
  }
  return Math.sqrt(squares)
}

/** Scales `gradient` in place so that its norm does not exceed `maxNorm` (0 switches clipping off); returns the norm before. */
export function clipGradient(gradient: Float32Array, maxNorm: number): number {
  const norm = gradientNorm(gradient)
  const scale = maxNorm / (norm + NORM_FLOOR)
  if (maxNorm <= 0 || scale >= 1) return norm
  for (let i = 0; i < gradient.length; i++) gradient[i] = (gradient[i] ?? 0) * scale
  return norm
}
