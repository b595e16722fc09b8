/** Versions of what computes a step, for traces: two equal sets on one machine give equal bits. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ONNX_RUNTIME, unavailable } from './engine/onnx-runtime.ts'

/** ONNX Runtime. Throws ENGINE_UNAVAILABLE where it is not installed. */
export function onnxVersions(): Record<string, string> {
  const require = createRequire(import.meta.url)
  try {
    return { [ONNX_RUNTIME]: versionIn(require.resolve(`${ONNX_RUNTIME}/package.json`)) }
  } catch (cause) {
    throw unavailable(cause)
  }
}

/** Node, this package and the packages of an engine, by name. */
export function versionsWith(engine: Readonly<Record<string, string>>): Record<string, string> {
  return {
    node: process.versions.node,
    gspo: versionIn(new URL('../package.json', import.meta.url)),
    ...engine,
    arch: process.arch,
    platform: process.platform,
  }
}

function versionIn(path: string | URL): string {
  const manifest: unknown = JSON.parse(readFileSync(path, 'utf8'))
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest)
    return String(manifest.version)
  return 'unknown'
}
