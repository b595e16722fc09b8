/** Fingerprints against GMAC as Node computes it in one call, and what a result's name depends on. */
import { createCipheriv } from 'node:crypto'
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { Fingerprints, fingerprint, hashFacts, nameResult } from '../src/round/fingerprint.ts'
import { Random } from './sim/random.ts'

const key = new Uint8Array(32).fill(3)

describe('fingerprints', () => {
  it('are GMAC of the segment with its number as nonce, however the bytes are cut', () => {
    const random = new Random(3)
    const bytes = Buffer.from(Array.from({ length: 5000 }, () => random.below(256)))
    for (let run = 0; run < 50; run++) {
      const segments = [bytes.subarray(0, random.below(5000)), bytes.subarray(random.below(5000))]
      const prints = new Fingerprints(key, 2)
      segments.forEach((segment, i) => {
        for (let at = 0; at < segment.length;) {
          const step = 1 + random.below(300)
          prints.add(i, segment.subarray(at, at + step))
          at += step
        }
      })
      const expected = segments.map((segment, i) => {
        const mac = createCipheriv('aes-256-gcm', key, Buffer.from([0, 0, 0, i, 0, 0, 0, 0, 0, 0, 0, 0]))
        mac.setAAD(segment)
        mac.final()
        return new Uint8Array(mac.getAuthTag())
      })
      assert.deepEqual(prints.finish(), expected, `run ${run}`)
    }
  })

  it('notice every single bit of a long segment', async () => {
    // Over the step of 8 MiB, so that the second call counts too.
    const long = new Uint8Array(2 ** 23 + 5)
    const clean = await fingerprint(key, 1, long)
    for (const at of [0, 2 ** 23 - 1, 2 ** 23, 2 ** 23 + 4]) {
      long[at] = 1
      assert.notDeepEqual(await fingerprint(key, 1, long), clean, `byte ${at}`)
      long[at] = 0
    }
  })
})

it('a name depends on the key, on each segment, and on all that was agreed before', () => {
  const view = { ringId: 'ab', epoch: 3, members: ['p', 'q'] }
  const contributions = [{ peerId: 'p', weight: 0.5, commitment: null }]
  const facts = { view, round: 7, totalWeight: 2, contributions }
  const [a, b] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)]
  const names = [
    nameResult(hashFacts(facts), key, [a, b]),
    nameResult(hashFacts(facts), key, [b, a]),
    nameResult(hashFacts(facts), new Uint8Array(32), [a, b]),
    nameResult(hashFacts({ ...facts, round: 8 }), key, [a, b]),
    nameResult(hashFacts({ ...facts, view: { ...view, epoch: 4 } }), key, [a, b]),
    nameResult(hashFacts({ ...facts, totalWeight: 3 }), key, [a, b]),
    nameResult(hashFacts({ ...facts, contributions: [] }), key, [a, b]),
  ]
  assert.equal(new Set(names.map((name) => Buffer.from(name).toString('hex'))).size, names.length)
})
