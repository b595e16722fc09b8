/** Runs the Python reference implementation of DELTA, where Python 3 is installed. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What `delta_reference.py decode` prints. */
export interface PythonReport {
  readonly compression: string
  readonly signed: boolean
  readonly metadata: unknown
  readonly body_sha3_256: string
  readonly tensors: readonly { name: string; dtype: string; shape: number[]; values: string }[]
  readonly signatures: readonly { scheme: string; key: string; ok: boolean }[]
  readonly bound_peer_id: string | null
  readonly bound_keys: readonly string[] | null
}

const REFERENCE = fileURLToPath(new URL('delta_reference.py', import.meta.url))

/** Why the Python tests cannot run here; false when they can. */
export const missingPython: string | false =
  spawnSync('python3', ['-c', 'import hashlib; hashlib.sha3_256']).status === 0
    ? false
    : 'python3 is not installed'

/** Decodes files with Python, each to a report or the reason for its refusal. */
export function pythonDecode(...files: Uint8Array[]): (PythonReport | { readonly error: string })[] {
  return inTemporaryFolder((folder) => {
    const paths = files.map((file, i) => {
      const path = join(folder, `${i}.delta`)
      writeFileSync(path, file)
      return path
    })
    const { stdout, stderr } = spawnSync('python3', ['-B', REFERENCE, 'decode', ...paths], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    })
    if (stdout === '') throw new Error(`the Python reader failed: ${stderr}`)
    return JSON.parse(stdout) as (PythonReport | { error: string })[]
  })
}

/** Encodes an unsigned file with Python. `tensors[].values` is hex of little-endian float32. */
export function pythonEncode(spec: {
  metadata: unknown
  compression: string
  tensors: readonly unknown[]
}): Uint8Array {
  return inTemporaryFolder((folder) => {
    const [specPath, path] = [join(folder, 'spec.json'), join(folder, 'out.delta')]
    writeFileSync(specPath, JSON.stringify(spec))
    const { status, stderr } = spawnSync('python3', ['-B', REFERENCE, 'encode', specPath, path], {
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`the Python writer failed: ${stderr}`)
    return readFileSync(path)
  })
}

function inTemporaryFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'gym-interop-'))
  try {
    return work(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
