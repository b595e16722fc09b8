/** Checks what a caller hands to `createRing`, before anything is opened. */
import { DEFAULT_DIRECT_SOCKETS, MAX_DIRECT_SOCKETS } from './defaults.ts'
import { RingError } from './errors.ts'
import type { RingOptions } from './types.ts'

/** Throws RingError BAD_ARGUMENT naming the first option that cannot work. */
export function checkOptions(options: RingOptions): void {
  requireRange('minMembers', options.minMembers, 1, 256)
  requireRange('peerTimeoutMs', options.peerTimeoutMs, 100, 3_600_000)
  if (options.job.length === 0 || options.job.length > 512) {
    throw new RingError('BAD_ARGUMENT', `job is ${options.job.length} characters, expected 1 to 512`)
  }
  requireRange('sockets', options.sockets ?? DEFAULT_DIRECT_SOCKETS, 1, MAX_DIRECT_SOCKETS)
  const chunkBytes = options.limits?.chunkBytes
  if (chunkBytes !== undefined && (chunkBytes < 64 || chunkBytes % 4 !== 0)) {
    throw new RingError('BAD_ARGUMENT', `chunkBytes is ${chunkBytes}, expected a multiple of 4 from 64 on`)
  }
}

/** Whether a peer may take part, as the lists of allowed and denied peers say at this moment. */
export function mayTakePart({ allow, deny }: Pick<RingOptions, 'allow' | 'deny'>, peer: string): boolean {
  if (deny?.includes(peer) === true) return false
  return allow === undefined || allow.includes(peer)
}

function requireRange(name: string, value: number, low: number, high: number): void {
  if (Number.isFinite(value) && value >= low && value <= high) return
  throw new RingError('BAD_ARGUMENT', `${name} is ${value}, expected ${low} to ${high}`)
}
