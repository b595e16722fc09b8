/** One file of a worker's round, as a validator fetches it: a worker that breaks off is asked again before it counts. */
import { setTimeout as sleep } from 'node:timers/promises'
import { RingError } from '@gym-node/ring'
import { messageOf } from '../errors.ts'
import { AUDIT_PROTOCOL, encodeRequest, type AuditFile, type Exchange } from './audit-protocol.ts'
import { FETCH_AGAIN_MS } from './defaults.ts'
import type { ValidatorConfig } from './validator-config.ts'

/** The file's bytes, or why they could not be had. Rejects only with the signal's reason. */
export async function fetchFile(
  { exchange, config }: { exchange: Exchange; config: ValidatorConfig },
  { workerId, want, round }: { workerId: string; want: AuditFile; round: number },
  signal: AbortSignal,
  waitsMs: readonly number[] = FETCH_AGAIN_MS,
): Promise<Uint8Array | string> {
  const options = { maxResponseBytes: config.max_file_bytes, timeoutMs: config.request_timeout_ms, signal }
  for (const waitMs of [...waitsMs, null]) {
    try {
      return await exchange.request(workerId, AUDIT_PROTOCOL, encodeRequest({ want, round }), options)
    } catch (error) {
      signal.throwIfAborted()
      // A busy worker lets requests give way to others', and a connection may break: neither is its answer.
      const mayPass =
        error instanceof RingError && error.code === 'PEER_LOST' && exchange.peers().includes(workerId)
      if (!mayPass || waitMs === null) return `${want}: ${messageOf(error)}`
      await sleep(waitMs, undefined, { signal })
    }
  }
  throw new Error('unreachable: the last wait is null')
}
