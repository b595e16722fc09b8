/**
 * Which of two engines with the same bytes this process seals with: OpenSSL called directly, which reads and writes where
 * it is told, or node:crypto where that cannot be had. docs/BENCHMARKS.md has the difference.
 */
import type { AeadEngine } from './aead.ts'
import { nodeEngine } from './aead-node.ts'
import { opensslEngine } from './aead-openssl.ts'

let engine: AeadEngine | null = null

/** The engine of this process. The first call finds out which, in some milliseconds. */
export function aeadEngine(): AeadEngine {
  engine ??= opensslEngine() ?? nodeEngine
  return engine
}
