/** The adapter that a delta starts from, from any of the places it may lie in. */

import { stat } from 'node:fs/promises'
import { openSafetensors } from '@gym-node/gspo'
import { NodeError } from '../errors.ts'
import type { Adapter } from './adapter.ts'
import { elementsOfMatrix, readWhole, type AdapterSource } from './adapter-source.ts'
import { isPeftFolder, openPeftFolder } from './peft-folder.ts'

/**
 * Opens a PEFT folder, or a trainer state file (safetensors with one flat tensor `adapter`), whose matrices are those
 * of `like`. Throws NodeError FILE_NOT_FOUND or BAD_ADAPTER.
 */
export async function openBaseAdapter(
  path: string,
  like: Pick<AdapterSource, 'matrices' | 'lora'>,
): Promise<AdapterSource> {
  if (await isPeftFolder(path)) return openPeftFolder(path)
  const found = await stat(path).catch((cause: unknown) => {
    throw new NodeError('FILE_NOT_FOUND', `there is no adapter folder or state file ${path}`, { cause })
  })
  if (!found.isFile())
    throw new NodeError('BAD_ADAPTER', `${path} is neither a PEFT adapter folder nor a state file`)
  return openState(path, like)
}

/** The same, whole in memory. */
export async function readBaseAdapter(path: string, like: Adapter): Promise<Adapter> {
  const source = await openBaseAdapter(path, like)
  try {
    return await readWhole(source)
  } finally {
    await source.close()
  }
}

async function openState(
  path: string,
  { matrices, lora }: Pick<AdapterSource, 'matrices' | 'lora'>,
): Promise<AdapterSource> {
  const file = await openSafetensors(path)
  try {
    const flat = file.header.tensors.get('adapter')
    if (flat === undefined)
      throw new NodeError('BAD_ADAPTER', `${path} holds no tensor "adapter": it is no trainer state`)
    const offsets: number[] = []
    let length = 0
    for (const matrix of matrices) {
      offsets.push(length)
      length += elementsOfMatrix(matrix)
    }
    const elements = flat.shape.reduce((product, size) => product * size, 1)
    if (elements !== length)
      throw new NodeError('BAD_ADAPTER', `the vector has ${elements} elements, the adapter ${length}`)
    return {
      matrices,
      lora,
      values: async (at) => {
        const matrix = matrices[at]
        const count = matrix === undefined ? 0 : elementsOfMatrix(matrix)
        const values = await file.readPart('adapter', offsets[at] ?? 0, count)
        if (values instanceof Float32Array) return values
        throw new NodeError(
          'BAD_ADAPTER',
          `${path}: the tensor "adapter" holds integers: it is no trainer state`,
        )
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}
