/** The adapter that a delta starts from, from any of the places it may lie in. */

import { readFile, stat } from 'node:fs/promises'
import { decodeSafetensors } from '@gym-node/gspo'
import { NodeError } from '../errors.ts'
import { unflatten, type Adapter } from './adapter.ts'
import { isPeftFolder, readPeftFolder } from './peft-folder.ts'

/**
 * Reads a PEFT folder, or a trainer state file (safetensors with one flat tensor `adapter`), whose matrices are those
 * of `like`. Throws NodeError FILE_NOT_FOUND or BAD_ADAPTER.
 */
export async function readBaseAdapter(path: string, like: Adapter): Promise<Adapter> {
  if (await isPeftFolder(path)) return readPeftFolder(path)
  const found = await stat(path).catch((cause: unknown) => {
    throw new NodeError('FILE_NOT_FOUND', `there is no adapter folder or state file ${path}`, { cause })
  })
  if (!found.isFile())
    throw new NodeError('BAD_ADAPTER', `${path} is neither a PEFT adapter folder nor a state file`)
  const { tensors } = decodeSafetensors(await readFile(path), path)
  const flat = tensors.get('adapter')?.values
  if (!(flat instanceof Float32Array))
    throw new NodeError('BAD_ADAPTER', `${path} holds no tensor "adapter": it is no trainer state`)
  return unflatten(flat, like)
}
