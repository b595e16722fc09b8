/** Answers a state request: the bytes this node holds under the hash that was asked for, from any offset on. */
import type { FrameHeader } from '@gym-node/wire'
import { sha3_256 } from '@gym-node/wire'
import type { RingLimits } from '../defaults.ts'
import { RingError } from '../errors.ts'
import { FRAME_KIND, type SealedLink } from '../link/sealed-link.ts'
import type { StateProvider } from '../types.ts'
import { parseStateRequest, type StateRequest } from './request.ts'

/** Serves one request on a fresh link, then waits for the other end to close it. Resolves with the bytes served. */
export async function serveState(
  link: SealedLink,
  state: StateProvider,
  limits: RingLimits,
): Promise<number> {
  const { round, hash, offset } = await nextRequest(link)
  const bytes = await state.read()
  if (Buffer.from(sha3_256(bytes)).toString('hex') !== hash || offset > bytes.byteLength) {
    link.send({ kind: FRAME_KIND.stateRefused, move: 0, round, chunk: 0 }, new Uint8Array(0))
    await link.close()
    return 0
  }
  const head = new Uint8Array(8)
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes.byteLength), true)
  link.send({ kind: FRAME_KIND.stateHead, move: 0, round, chunk: 0 }, head)
  let chunk = 0
  for (let at = offset; at < bytes.byteLength; at += limits.chunkBytes) {
    const part = bytes.subarray(at, at + limits.chunkBytes)
    const more = link.send({ kind: FRAME_KIND.stateChunk, move: 0, round, chunk }, part)
    chunk += 1
    if (!more) await link.drained()
  }
  await new Promise<void>((resolve) => link.onEnd(() => resolve()))
  return bytes.byteLength - offset
}

function nextRequest(link: SealedLink): Promise<StateRequest> {
  return new Promise((resolve, reject) => {
    link.onEnd(reject)
    link.onFrame((header: FrameHeader, payload: Uint8Array) => {
      if (header.kind !== FRAME_KIND.stateRequest) {
        throw new RingError('BAD_FRAME', `frame kind ${header.kind}, expected a state request`, {
          peer: link.peer,
        })
      }
      resolve(parseStateRequest(payload))
    })
  })
}
