/** How two adapters or deltas differ, tensor by tensor and in all (`delta diff`). */

import { layoutDifference, type Adapter } from './adapter.ts'
import { DeltaCursor } from './delta-cursor.ts'
import { readDeltaFile } from './delta-file.ts'
import { isPeftFolder, readPeftFolder } from './peft-folder.ts'

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

/** Compares two adapters. Pure. */
export function diffAdapters(left: Adapter, right: Adapter): AdapterDifference {
  const layout = layoutDifference(left, right)
  if (layout !== null) return otherLayout(layout)
  return summarise(
    left.matrices.map(({ name, values }, at) => ({
      name,
      ...compareVectors(values, right.matrices[at]?.values ?? new Float32Array(0)),
    })),
  )
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

/** Two delta files, one tensor of each in memory at a time. */
async function diffDeltas(left: DeltaCursor, right: DeltaCursor): Promise<AdapterDifference> {
  const namesOnly = ({ records }: DeltaCursor): Adapter => ({
    matrices: records.map(({ name, shape }) => ({ name, shape, values: new Float32Array(0) })),
    lora: null,
  })
  const layout = layoutDifference(namesOnly(left), namesOnly(right))
  if (layout !== null) return otherLayout(layout)
  const tensors: ({ name: string } & VectorDifference)[] = []
  for (const [at, { name }] of left.records.entries())
    tensors.push({ name, ...compareVectors(await left.values(at), await right.values(at)) })
  return summarise(tensors)
}

/** Compares two files or folders, each a PEFT folder or a DELTA file. Throws what reading them throws. */
export async function diffPaths(left: string, right: string): Promise<AdapterDifference> {
  const [isLeftFolder, isRightFolder] = [await isPeftFolder(left), await isPeftFolder(right)]
  if (isLeftFolder || isRightFolder) {
    const read = async (path: string, isFolder: boolean): Promise<Adapter> =>
      isFolder ? readPeftFolder(path) : (await readDeltaFile(path)).adapter
    return diffAdapters(await read(left, isLeftFolder), await read(right, isRightFolder))
  }
  const cursors = [await DeltaCursor.open(left), await DeltaCursor.open(right)] as const
  try {
    return await diffDeltas(...cursors)
  } finally {
    for (const cursor of cursors) await cursor.close()
  }
}
