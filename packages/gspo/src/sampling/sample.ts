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

/** log softmax(logits / temperature)[token] of row `row`; what FORMULAS call l_it. */
export function tokenLogp(
  logits: Float32Array,
  row: number,
  vocabSize: number,
  token: number,
  temperature: number,
): number {
  const { weights, sum } = softmaxWeights(logits, row, vocabSize, temperature)
  return Math.log(weights[token] ?? 0) - Math.log(sum)
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
  const { weights, sum } = softmaxWeights(logits, row, vocabSize, options.temperature)
  return drawToken(weights.subarray(0, vocabSize), sum, options, u)
}

/**
 * As `sampleToken`, from probabilities at the temperature (rows x vocabSize) that an engine has computed: a large
 * vocabulary's exponentials cost more in this thread than the model does.
 */
export function sampleProbability(
  probabilities: Float32Array,
  row: number,
  vocabSize: number,
  options: SamplingOptions,
  u: number,
): SampledToken {
  const weights = probabilities.subarray(row * vocabSize, (row + 1) * vocabSize)
  let sum = 0
  for (let token = 0; token < vocabSize; token++) sum += weights[token] ?? 0
  return drawToken(weights, sum, options, u)
}

/** A row's part sums: see `PartSums`. */
export interface RowSums {
  readonly largest: number
  /** One for each equal part of the vocabulary. */
  readonly sums: Float32Array
}

/**
 * As `sampleToken` without filters, from sums that an engine has computed: only the tokens of the part that `u` falls
 * into are looked at. `logits` are the row's own.
 */
export function sampleFromParts(
  logits: Float32Array,
  { largest, sums }: RowSums,
  temperature: number,
  u: number,
): SampledToken {
  let total = 0
  for (const sum of sums) total += sum
  const target = u * total
  let chosen = 0
  let before = 0
  for (let part = 0, reached = 0; part < sums.length && reached <= target; part++) {
    if (sums[part] === 0) continue
    chosen = part
    before = reached
    reached += sums[part] ?? 0
  }
  const size = logits.length / sums.length
  const first = chosen * size
  let token = first
  let cumulative = before
  for (let next = first; next < first + size; next++) {
    const weight = Math.exp(((logits[next] ?? -Infinity) - largest) / temperature)
    if (weight === 0) continue
    token = next
    cumulative += weight
    if (cumulative > target) break
  }
  return { token, logp: ((logits[token] ?? NaN) - largest) / temperature - Math.log(total) }
}

/** One row of unnormalised probabilities. */
type Weights = Float64Array | Float32Array

function drawToken(weights: Weights, sum: number, options: SamplingOptions, u: number): SampledToken {
  const kept = keptTokens(weights, options)
  const token = kept === null ? walkAll(weights, u * sum) : walkKept(kept, u)
  return { token, logp: Math.log(weights[token] ?? 0) - Math.log(sum) }
}

/** Grows to the largest vocabulary seen: one exponential a token is what a draw of a large vocabulary costs. */
let scratch = new Float64Array(0)

/** exp((logit - largest logit) / temperature) of a row and their sum, in double precision; valid until the next call. */
function softmaxWeights(
  logits: Float32Array,
  row: number,
  vocabSize: number,
  temperature: number,
): { weights: Float64Array; sum: number } {
  if (scratch.length < vocabSize) scratch = new Float64Array(vocabSize)
  const start = row * vocabSize
  let max = -Infinity
  for (let token = 0; token < vocabSize; token++) {
    const logit = logits[start + token] ?? -Infinity
    if (logit > max) max = logit
  }
  let sum = 0
  for (let token = 0; token < vocabSize; token++) {
    const weight = Math.exp(((logits[start + token] ?? -Infinity) - max) / temperature)
    scratch[token] = weight
    sum += weight
  }
  return { weights: scratch, sum }
}

function walkAll(weights: Weights, target: number): number {
  let cumulative = 0
  let last = 0
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token] ?? 0
    if (weight === 0) continue
    cumulative += weight
    last = token
    if (cumulative > target) break
  }
  return last
}

function walkKept(kept: readonly Candidate[], u: number): number {
  let total = 0
  for (const { weight } of kept) total += weight
  const target = u * total
  let cumulative = 0
  for (const { token, weight } of kept) {
    cumulative += weight
    if (cumulative > target) return token
  }
  return kept.at(-1)?.token ?? 0
}

interface Candidate {
  readonly token: number
  readonly weight: number
}

/** The tokens that pass the filters, in vocabulary order; null when no filter is on. */
function keptTokens(weights: Weights, options: SamplingOptions): Candidate[] | null {
  const { topK, topP, minP } = options
  const limitsCount = topK > 0 && topK < weights.length
  if (!limitsCount && topP >= 1 && minP <= 0) return null
  const candidates: Candidate[] = []
  for (let token = 0; token < weights.length; token++) {
    const weight = weights[token] ?? 0
    if (weight > 0) candidates.push({ token, weight })
  }
  candidates.sort((a, b) => b.weight - a.weight || a.token - b.token)
  if (limitsCount && candidates.length > topK) candidates.length = topK
  if (topP < 1) candidates.length = nucleusLength(candidates, topP)
  const threshold = minP * (candidates[0]?.weight ?? 0)
  const kept = candidates.filter(({ weight }) => weight >= threshold)
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
