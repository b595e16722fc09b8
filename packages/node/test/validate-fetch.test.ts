/** Fetching a file of a worker that is busy, gone or refuses. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RingError } from '@gym-node/ring'
import type { Exchange } from '../src/validate/audit-protocol.ts'
import { fetchFile } from '../src/validate/fetched-file.ts'
import { validatorConfigSchema } from '../src/validate/validator-config.ts'

const config = validatorConfigSchema.parse({})
const ASKED = { workerId: 'worker', want: 'trace', round: 3 } as const
const never = new AbortController().signal

/** An exchange whose requests end as told, one after the other. */
function exchangeOf(
  answers: (Uint8Array | Error)[],
  peers: string[] = ['worker'],
): Exchange & { asked: number } {
  return {
    peerId: 'validator',
    asked: 0,
    peers: () => peers,
    async request() {
      const answer = answers[this.asked++]
      if (answer instanceof Uint8Array) return answer
      throw answer ?? new Error('asked too often')
    },
    handle: () => Promise.reject(new Error('not served here')),
  }
}
const lost = new RingError('PEER_LOST', 'stream ended')

describe('fetching a file', () => {
  it('asks again when the sending broke off, and gives the bytes', async () => {
    const exchange = exchangeOf([lost, lost, Uint8Array.of(7)])
    assert.deepEqual(await fetchFile({ exchange, config }, ASKED, never, [0, 0]), Uint8Array.of(7))
  })
  it('says what broke off when it has asked often enough', async () => {
    const exchange = exchangeOf([lost, lost, lost])
    assert.equal(await fetchFile({ exchange, config }, ASKED, never, [0, 0]), 'trace: stream ended')
    assert.equal(exchange.asked, 3)
  })
  it('takes a refusal, and the end of a worker that is gone, at their first word', async () => {
    const refused = exchangeOf([new RingError('REFUSED', 'not kept here')])
    assert.equal(await fetchFile({ exchange: refused, config }, ASKED, never, [0, 0]), 'trace: not kept here')
    const gone = exchangeOf([lost], [])
    assert.equal(await fetchFile({ exchange: gone, config }, ASKED, never, [0, 0]), 'trace: stream ended')
    assert.deepEqual([refused.asked, gone.asked], [1, 1])
  })
})
