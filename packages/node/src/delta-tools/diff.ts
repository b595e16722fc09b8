/** How two adapters or deltas differ, tensor by tensor and in all (`delta diff`). */

import { layoutDifference } from './adapter.ts'
import { deltaSource, type AdapterSource } from './adapter-source.ts'
import { DeltaCursor } from './delta-cursor.ts'
import { isPeftFolder, openPeftFolder } from './peft-folder.ts'

/** Two vectors compared. */
export interface VectorDifference {
  readonly elements: number
  readonly leftNorm: number
  readonly rightNorm: number
  /** Norm of right - left. */
  readonly differenceNorm: number
  readonly maxAbsolute: number
  /** Elements whose bits differ (0 and -0 count as equal). */
  readonly differing: number
  /** NaN when one side is zero. */
  readonly cosine: number
}

/** The whole answer. */
export interface AdapterDifference {
  readonly isEqual: boolean
  /** In words, when names or shapes differ; then nothing else is compared. */
  readonly layout: string | null
  readonly total: VectorDifference | null
  readonly tensors: readonly ({ readonly name: string } & VectorDifference)[]
}

/** Compares vectors of equal length. */
export function compareVectors(left: Float32Array, right: Float32Array): VectorDifference {
  let [leftSquares, rightSquares, squares, product, maxAbsolute, differing] = [0, 0, 0, 0, 0, 0]
  for (let i = 0; i < left.length; i += 1) {
    const a = left[i] ?? 0
    const b = right[i] ?? 0
    const difference = b - a
    leftSquares += a * a
    rightSquares += b * b
    product += a * b
    squares += difference * difference
    if (difference !== 0) differing += 1
    if (Math.abs(difference) > maxAbsolute) maxAbsolute = Math.abs(difference)
  }
  return {
    elements: left.length,
    leftNorm: Math.sqrt(leftSquares),
    rightNorm: Math.sqrt(rightSquares),
    differenceNorm: Math.sqrt(squares),
    maxAbsolute,
    differing,
    cosine: product / Math.sqrt(leftSquares * rightSquares),
  }
}

/** Compares two adapters, one matrix of each in memory at a time. */
export async function diffSources(left: AdapterSource, right: AdapterSource): Promise<AdapterDifference> {
  const layout = layoutDifference(left, right)
  if (layout !== null) return otherLayout(layout)
  const tensors: ({ name: string } & VectorDifference)[] = []
  for (const [at, { name }] of left.matrices.entries())
    tensors.push({ name, ...compareVectors(await left.values(at), await right.values(at)) })
  return summarise(tensors)
}

function otherLayout(layout: string): AdapterDifference {
  return { isEqual: false, layout, total: null, tensors: [] }
}

function summarise(tensors: AdapterDifference['tensors']): AdapterDifference {
  const sum = (of: (tensor: VectorDifference) => number): number =>
    tensors.reduce((all, tensor) => all + of(tensor), 0)
  const root = (of: (tensor: VectorDifference) => number): number =>
    Math.sqrt(sum((tensor) => of(tensor) ** 2))
  const leftNorm = root((tensor) => tensor.leftNorm)
  const rightNorm = root((tensor) => tensor.rightNorm)
  const product = sum(({ cosine, ...norms }) =>
    Number.isNaN(cosine) ? 0 : cosine * norms.leftNorm * norms.rightNorm,
  )
  const total = {
    elements: sum(({ elements }) => elements),
    leftNorm,
    rightNorm,
    differenceNorm: root(({ differenceNorm }) => differenceNorm),
    maxAbsolute: tensors.reduce((most, { maxAbsolute }) => Math.max(most, maxAbsolute), 0),
    differing: sum(({ differing }) => differing),
    cosine: product / (leftNorm * rightNorm),
  }
  return { isEqual: total.differing === 0, layout: null, total, tensors }
}

/** Compares two files or folders, each a PEFT folder or a DELTA file. Throws what reading them throws. */
export async function diffPaths(left: string, right: string): Promise<AdapterDifference> {
  await using closing = new AsyncDisposableStack()
  const open = async (path: string): Promise<AdapterSource> => {
    const source = (await isPeftFolder(path))
      ? await openPeftFolder(path)
      : deltaSource(await DeltaCursor.open(path))
    closing.defer(() => source.close())
    return source
  }
  return await diffSources(await open(left), await open(right))
}
