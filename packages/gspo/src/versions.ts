/** Versions of what computes a step, for traces: two equal sets on one machine give equal bits. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

/** Node, this package and ONNX Runtime, by name. */
export function engineVersions(): Record<string, string> {
  const require = createRequire(import.meta.url)
  return {
    node: process.versions.node,
    gspo: versionIn(new URL('../package.json', import.meta.url)),
    'onnxruntime-node': versionIn(require.resolve('onnxruntime-node/package.json')),
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
