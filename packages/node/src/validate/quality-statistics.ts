/**
 * Statistics of a round's deltas that show poison: norms, directions, signs, copies. Pure arithmetic over flat float32
 * vectors of one layout; thresholds are elsewhere. Non-finite numbers count as zero here and are counted apart.
 */

/** A part of the flat vector, one tensor. */
export interface Span {
  readonly name: string
  readonly offset: number
  readonly length: number
}

/** What is measured of one delta; comparisons are with the other finite, non-zero deltas of the round. */
export interface DeltaStatistics {
  readonly nonFinite: number
  /** First non-finite element, or -1. */
  readonly firstNonFinite: number
  readonly norm: number
  /** Robust deviations of log norm from the others; null without others to compare with. */
  readonly normDeviation: number | null
  /** The tensor whose log norm deviates most, and by how much. */
  readonly worstTensor: {
    readonly name: string
    readonly norm: number
    readonly median: number
    readonly deviation: number
  } | null
  /** Cosine with the sum of the others' unit vectors. */
  readonly cosine: number | null
  /** Share of elements, non-zero in both, whose sign is that of the others' summed signs. */
  readonly signAgreement: number | null
  /** The earlier delta with the largest absolute cosine. */
  readonly nearest: { readonly index: number; readonly cosine: number; readonly scale: number } | null
}

/** 1.4826 MAD estimates the standard deviation of a normal distribution. */
const MAD_TO_DEVIATION = 1.4826

/** The median; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2
}

/** Signed robust deviations of log `value` from the logs of `others`, one deviation being at least `minSpread`. */
export function logDeviation(value: number, others: readonly number[], minSpread: number): number {
  const logs = others.map(Math.log)
  const centre = median(logs)
  const spread = MAD_TO_DEVIATION * median(logs.map((log) => Math.abs(log - centre)))
  return (Math.log(value) - centre) / Math.max(spread, minSpread)
}

function squaredNorm(vector: Float32Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 1) {
    const value = vector[i] ?? 0
    if (Number.isFinite(value)) sum += value * value
  }
  return sum
}

function nonFinite(vector: Float32Array): { count: number; first: number } {
  let count = 0
  let first = -1
  for (let i = 0; i < vector.length; i += 1) {
    if (Number.isFinite(vector[i])) continue
    if (first < 0) first = i
    count += 1
  }
  return { count, first }
}

function dot(left: Float32Array, right: Float32Array): number {
  let sum = 0
  for (let i = 0; i < left.length; i += 1) sum += (left[i] ?? 0) * (right[i] ?? 0)
  return sum
}

/** The share of elements where `vector` has the sign of `signs` (sum of all signs) without its own vote. */
function agreement(vector: Float32Array, signs: Int16Array, isCounted: boolean): number | null {
  let same = 0
  let total = 0
  for (let i = 0; i < vector.length; i += 1) {
    const own = Math.sign(vector[i] ?? 0)
    const others = (signs[i] ?? 0) - (isCounted ? own : 0)
    if (own === 0 || others === 0) continue
    total += 1
    if (own === Math.sign(others)) same += 1
  }
  return total === 0 ? null : same / total
}

/** The Gram matrix of the usable vectors; rows and columns of the others are NaN. */
function gramMatrix(vectors: readonly Float32Array[], isUsable: readonly boolean[]): number[][] {
  const gram = vectors.map(() => vectors.map(() => NaN))
  for (const [i, left] of vectors.entries()) {
    for (let j = 0; j <= i; j += 1) {
      const right = vectors[j]
      if (right === undefined || !isUsable[i] || !isUsable[j]) continue
      const product = dot(left, right)
      const [rowI, rowJ] = [gram[i], gram[j]]
      if (rowI !== undefined) rowI[j] = product
      if (rowJ !== undefined) rowJ[i] = product
    }
  }
  return gram
}

/**
 * Measures every delta of a round against the others. `vectors` are in order of arrival and have one layout;
 * `minOthers` is the number of usable others that comparisons need. Cost: n^2/2 dot products.
 */
export function deltaStatistics(
  vectors: readonly Float32Array[],
  spans: readonly Span[],
  o: { minOthers: number; minSpread: number },
): DeltaStatistics[] {
  const faults = vectors.map(nonFinite)
  const norms = vectors.map((vector) => Math.sqrt(squaredNorm(vector, 0, vector.length)))
  const isUsable = vectors.map((_, i) => faults[i]?.count === 0 && (norms[i] ?? 0) > 0)
  const spanNorms = spans.map(({ offset, length }) =>
    vectors.map((v) => Math.sqrt(squaredNorm(v, offset, offset + length))),
  )
  const gram = gramMatrix(vectors, isUsable)
  const cosineOf = (i: number, j: number): number =>
    (gram[i]?.[j] ?? NaN) / ((norms[i] ?? 0) * (norms[j] ?? 0))
  const signs = new Int16Array(vectors[0]?.length ?? 0)
  for (const [at, vector] of vectors.entries()) {
    if (!isUsable[at]) continue
    for (let i = 0; i < signs.length; i += 1) signs[i] = (signs[i] ?? 0) + Math.sign(vector[i] ?? 0)
  }

  return vectors.map((vector, i) => {
    const others = vectors.flatMap((_, j) => (j !== i && isUsable[j] ? [j] : []))
    const canCompare = isUsable[i] === true && others.length >= o.minOthers
    const normOf = (j: number): number => norms[j] ?? 0
    const [nonFiniteCount, firstNonFinite] = [faults[i]?.count ?? 0, faults[i]?.first ?? -1]
    const base = { nonFinite: nonFiniteCount, firstNonFinite, norm: normOf(i) }
    const nearest = isUsable[i] ? nearestOf(others.filter((j) => j < i)) : null
    if (!canCompare)
      return { ...base, normDeviation: null, worstTensor: null, cosine: null, signAgreement: null, nearest }
    return {
      ...base,
      normDeviation: logDeviation(normOf(i), others.map(normOf), o.minSpread),
      worstTensor: worstTensor(),
      cosine: cosineWithSum(),
      signAgreement: agreement(vector, signs, true),
      nearest,
    }

    function nearestOf(earlier: readonly number[]): DeltaStatistics['nearest'] {
      let best: DeltaStatistics['nearest'] = null
      for (const j of earlier) {
        const cosine = cosineOf(i, j)
        if (best === null || Math.abs(cosine) > Math.abs(best.cosine)) {
          best = { index: j, cosine, scale: (Math.sign(cosine) * normOf(i)) / normOf(j) }
        }
      }
      return best
    }

    function worstTensor(): DeltaStatistics['worstTensor'] {
      let worst: DeltaStatistics['worstTensor'] = null
      for (const [at, { name }] of spans.entries()) {
        const all = spanNorms[at] ?? []
        const norm = all[i] ?? 0
        const theirs = others.map((j) => all[j] ?? 0).filter((value) => value > 0)
        if (norm === 0 || theirs.length < o.minOthers) continue
        const deviation = logDeviation(norm, theirs, o.minSpread)
        if (worst === null || Math.abs(deviation) > Math.abs(worst.deviation)) {
          worst = { name, norm, median: median(theirs), deviation }
        }
      }
      return worst
    }

    /** From the Gram matrix alone: <v_i, sum_j u_j> / (|v_i| |sum_j u_j|) with unit vectors u_j of the others. */
    function cosineWithSum(): number | null {
      let along = 0
      let squared = 0
      for (const j of others) {
        along += cosineOf(i, j)
        for (const k of others) squared += cosineOf(j, k)
      }
      return squared <= 0 ? null : along / Math.sqrt(squared)
    }
  })
}
