/** Folders and files that a supervised run writes: each is replaced as a whole, so a crash leaves the old or the new one. */
import { mkdir, open, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { asUnwritable } from '../peft/replace-files.ts'

/** Makes a folder when it is missing. Throws GspoError FILE_UNWRITABLE. */
export async function makeFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true })
  } catch (cause) {
    throw asUnwritable(cause, dir)
  }
}

/**
 * Replaces a file; it is on disk under its name when this resolves. What a killed process had half written is written
 * over by the next. Throws GspoError FILE_UNWRITABLE.
 */
export async function replaceFile(path: string, content: Uint8Array): Promise<void> {
  try {
    await writeFile(`${path}.tmp`, content, { flush: true })
    await rename(`${path}.tmp`, path)
    const folder = await open(dirname(path), 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  } catch (cause) {
    throw asUnwritable(cause, path)
  }
}
