/** Symbolic sizes: a number, or a polynomial over named symbols in a canonical text form such as `C+P` or `2*B*S`. */
import { GspoError } from '../errors.ts'

/** A size known now (number) or at run time (canonical polynomial). */
export type Dim = number | string

/** The sizes of a tensor's axes. */
export type Shape = readonly Dim[]

type Polynomial = Map<string, number>

/** Sum of two sizes. */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b
  const sum = parse(a)
  for (const [term, factor] of parse(b)) sum.set(term, (sum.get(term) ?? 0) + factor)
  return print(sum)
}

/** Difference of two sizes. */
export function subDims(a: Dim, b: Dim): Dim {
  return addDims(a, mulDims(-1, b))
}

/** Product of sizes. */
export function mulDims(...dims: readonly Dim[]): Dim {
  let product: Polynomial = new Map([['', 1]])
  for (const dim of dims) {
    const next: Polynomial = new Map()
    for (const [termA, factorA] of product)
      for (const [termB, factorB] of parse(dim)) {
        const term = [...symbols(termA), ...symbols(termB)].sort().join('*')
        next.set(term, (next.get(term) ?? 0) + factorA * factorB)
      }
    product = next
  }
  return print(product)
}

/** The value of a size under bindings of its symbols; throws BAD_GRAPH for an unbound symbol. */
export function evalDim(dim: Dim, bindings: ReadonlyMap<string, number>): number {
  if (typeof dim === 'number') return dim
  let sum = 0
  for (const [term, factor] of parse(dim)) {
    let product = factor
    for (const symbol of symbols(term)) {
      const value = bindings.get(symbol)
      if (value === undefined) throw new GspoError('BAD_GRAPH', `size ${symbol} has no value`)
      product *= value
    }
    sum += product
  }
  return sum
}

/** Terms of a size: a coefficient and the symbols that it multiplies. */
export function dimTerms(dim: Dim): { factor: number; symbols: string[] }[] {
  return [...parse(dim)].map(([term, factor]) => ({ factor, symbols: symbols(term) }))
}

/** Whether two shapes are the same, size by size. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis])
}

/** The shape of `a op b` under NumPy's broadcasting; throws BAD_GRAPH when the sizes do not go together. */
export function broadcastShapes(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, axis) => {
    const dimA = a[axis - rank + a.length] ?? 1
    const dimB = b[axis - rank + b.length] ?? 1
    if (dimA === dimB || dimB === 1) return dimA
    if (dimA === 1) return dimB
    throw new GspoError('BAD_GRAPH', `shapes [${a.join(', ')}] and [${b.join(', ')}] do not broadcast`)
  })
}

function symbols(term: string): string[] {
  return term === '' ? [] : term.split('*')
}

function parse(dim: Dim): Polynomial {
  if (typeof dim === 'number') return new Map([['', dim]])
  const polynomial: Polynomial = new Map()
  for (const text of dim.split('+')) {
    const parts = text.split('*')
    const factor = /^-?\d+$/.test(parts[0] ?? '') ? Number(parts.shift()) : 1
    polynomial.set(parts.join('*'), factor)
  }
  return polynomial
}

function print(polynomial: Polynomial): Dim {
  const terms = [...polynomial].filter(([, factor]) => factor !== 0).sort(([a], [b]) => (a < b ? -1 : 1))
  if (terms.length === 0) return 0
  if (terms.length === 1 && terms[0]?.[0] === '') return terms[0][1]
  return terms
    .map(([term, factor]) => (term === '' ? `${factor}` : factor === 1 ? term : `${factor}*${term}`))
    .join('+')
}
