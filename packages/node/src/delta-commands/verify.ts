/** `delta verify`: the verdict on a delta file, check by check. */
import { verifyDelta } from '@gym-node/wire'
import { openDeltaFile } from './open-file.ts'

/** The verdict on `path` and its report, as text or one line of JSON. Throws NodeError FILE_*. */
export async function verifyDeltaFile(path: string, asJson: boolean): Promise<{ ok: boolean; text: string }> {
  const { source, size } = await openDeltaFile(path)
  const verdict = await verifyDelta(source, undefined, size)
  const { ok, checks, metadata } = verdict
  if (asJson) {
    const hash = verdict.bodySha3 === null ? null : Buffer.from(verdict.bodySha3).toString('hex')
    return { ok, text: `${JSON.stringify({ file: path, ok, checks, body_sha3_256: hash, metadata })}\n` }
  }
  const by =
    metadata === null ? '' : `, round ${metadata.round} of job ${metadata.job} by ${metadata.worker_id}`
  const lines = checks.map(
    (check) => `  ${check.ok ? 'ok    ' : 'FAILED'} ${check.name.padEnd(10)} ${check.detail}`,
  )
  return { ok, text: [`${path}: ${ok ? 'verified' : 'NOT verified'}${by}`, ...lines, ''].join('\n') }
}
