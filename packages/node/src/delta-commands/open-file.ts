/** Opens a file that the user named, with errors that name it. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { MAX_DELTA_FILE_BYTES } from '../defaults.ts'
import { READ_CHUNK_BYTES } from '../delta-tools/defaults.ts'
import { errnoOf, messageOf, NodeError } from '../errors.ts'

/** The bytes of a regular file as a stream, and how many. Throws NodeError FILE_NOT_FOUND or FILE_UNREADABLE. */
export async function openDeltaFile(
  path: string,
): Promise<{ source: AsyncIterable<Uint8Array>; size: number }> {
  let size: number
  try {
    const found = await stat(path)
    size = found.size
    if (!found.isFile()) throw new NodeError('FILE_UNREADABLE', `${path} is not a file`)
    if (found.size > MAX_DELTA_FILE_BYTES) {
      throw new NodeError('FILE_UNREADABLE', `${path} is ${found.size} bytes, limit ${MAX_DELTA_FILE_BYTES}`)
    }
  } catch (error) {
    if (error instanceof NodeError) throw error
    const code = errnoOf(error) === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_UNREADABLE'
    throw new NodeError(code, `cannot read ${path}: ${messageOf(error)}`, { cause: error })
  }
  return { source: readable(path), size }
}

async function* readable(path: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: READ_CHUNK_BYTES }))
      yield chunk as Buffer
  } catch (error) {
    throw new NodeError('FILE_UNREADABLE', `cannot read ${path}: ${messageOf(error)}`, { cause: error })
  }
}
