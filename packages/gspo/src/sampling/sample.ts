/**
 * Choosing the next token from one row of logits: temperature, top-k, top-p, min-p, in the order of Hugging Face
 * transformers. The returned logprob is that of the policy at the temperature and ignores the three filters.
 */

/** How tokens are chosen; a filter at its neutral value (top_k 0, top_p 1, min_p 0) does nothing. */
export interface SamplingOptions {
  /** Divides the logits, above 0. */
  readonly temperature: number
  /** Keep the k likeliest tokens; 0 keeps all. */
  readonly topK: number
  /** Keep the smallest set of likeliest tokens whose probability reaches this; 1 keeps all. */
  readonly topP: number
  /** Keep tokens at least this share of the likeliest one's probability; 0 keeps all. */
  readonly minP: number
}

/** A chosen token and its log-probability under softmax(logits / temperature) over the whole vocabulary. */
export interface SampledToken {
  readonly token: number
  readonly logp: number
}

/** Index of the largest logit in row `row`; the first one on a tie. NaN never wins. */
export function argmax(logits: Float32Array, row: number, vocabSize: number): number {
  const start = row * vocabSize
  let best = 0
  let bestLogit = -Infinity
  for (let token = 0; token < vocabSize; token++) {
    const logit = logits[start + token] ?? -Infinity
    if (logit > bestLogit) {
      bestLogit = logit
      best = token
    }
  }
  return best
}

/** The softmax's normaliser of one row, in double precision, as the row's largest logit and the sum of exp((logit - max) / temperature). */
function logNormaliser(
  logits: Float32Array,
  start: number,
  vocabSize: number,
  temperature: number,
): [number, number] {
  let max = -Infinity
  for (let token = 0; token < vocabSize; token++) {
    const logit = logits[start + token] ?? -Infinity
    if (logit > max) max = logit
  }
  let sum = 0
  for (let token = 0; token < vocabSize; token++)
    sum += Math.exp(((logits[start + token] ?? -Infinity) - max) / temperature)
  return [max, sum]
}

/** log softmax(logits / temperature)[token] of row `row`; what FORMULAS call l_it. */
export function tokenLogp(
  logits: Float32Array,
  row: number,
  vocabSize: number,
  token: number,
  temperature: number,
): number {
  const start = row * vocabSize
  const [max, sum] = logNormaliser(logits, start, vocabSize, temperature)
  return ((logits[start + token] ?? -Infinity) - max) / temperature - Math.log(sum)
}

/**
 * Draws a token from row `row` of `logits` (rows x vocabSize) with the uniform number `u` in [0, 1).
 * Walks the kept tokens in vocabulary order, so the choice is a pure function of the logits and `u`.
 */
export function sampleToken(
  logits: Float32Array,
  row: number,
  vocabSize: number,
  options: SamplingOptions,
  u: number,
): SampledToken {
  const start = row * vocabSize
  const { temperature } = options
  const [max, sum] = logNormaliser(logits, start, vocabSize, temperature)
  const logpOf = (token: number): number =>
    ((logits[start + token] ?? -Infinity) - max) / temperature - Math.log(sum)
  const kept = keptTokens(logits, start, vocabSize, max, options)
  if (kept === null) {
    const target = u * sum
    let cumulative = 0
    let last = 0
    for (let token = 0; token < vocabSize; token++) {
      const weight = Math.exp(((logits[start + token] ?? -Infinity) - max) / temperature)
      if (weight === 0) continue
      cumulative += weight
      last = token
      if (cumulative > target) break
    }
    return { token: last, logp: logpOf(last) }
  }
  let total = 0
  for (const { weight } of kept) total += weight
  const target = u * total
  let cumulative = 0
  let chosen = kept[0]?.token ?? 0
  for (const { token, weight } of kept) {
    cumulative += weight
    chosen = token
    if (cumulative > target) break
  }
  return { token: chosen, logp: logpOf(chosen) }
}

interface Candidate {
  readonly token: number
  readonly weight: number
}

/** The tokens that pass the filters in vocabulary order, with unnormalised weights; null when no filter is on. */
function keptTokens(
  logits: Float32Array,
  start: number,
  vocabSize: number,
  max: number,
  options: SamplingOptions,
): Candidate[] | null {
  const { temperature, topK, topP, minP } = options
  const limitsCount = topK > 0 && topK < vocabSize
  if (!limitsCount && topP >= 1 && minP <= 0) return null
  // The likeliest token's weight is exp(0) = 1, so min-p is a plain threshold on the weights.
  const candidates: Candidate[] = []
  for (let token = 0; token < vocabSize; token++) {
    const weight = Math.exp(((logits[start + token] ?? -Infinity) - max) / temperature)
    if (weight > 0) candidates.push({ token, weight })
  }
  candidates.sort((a, b) => b.weight - a.weight || a.token - b.token)
  if (limitsCount && candidates.length > topK) candidates.length = topK
  if (topP < 1) candidates.length = nucleusLength(candidates, topP)
  const kept = minP > 0 ? candidates.filter(({ weight }) => weight >= minP) : candidates
  return kept.sort((a, b) => a.token - b.token)
}

/** How many of the ranked candidates are needed for their share to reach `topP`; at least one. */
function nucleusLength(ranked: readonly Candidate[], topP: number): number {
  let total = 0
  for (const { weight } of ranked) total += weight
  let cumulative = 0
  for (let count = 0; count < ranked.length; count++) {
    cumulative += ranked[count]?.weight ?? 0
    if (cumulative >= topP * total) return count + 1
  }
  return ranked.length
}
