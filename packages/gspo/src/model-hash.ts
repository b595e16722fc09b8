/** The identity of a model folder's weights, without loading them. */
import { hashFiles, openCheckpoint } from './weights/checkpoint.ts'

/** SHA-256 (hex) over the weight files' bytes, as in `Policy.model.sha256`. Throws FILE_MISSING or BAD_SAFETENSORS. */
export async function modelSha256(modelDir: string): Promise<string> {
  const { files } = await openCheckpoint(modelDir)
  return hashFiles(files)
}
