/** Hostile attestation bytes end in a failed check named `format`, never in an exception or a pass. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'

import { parseTpmAttest } from '../src/attestation/tpm-attest.ts'
import type { Attestation, Tpm2Attestation } from '../src/attestation/types.ts'
import { verifyAttestation } from '../src/attestation/verify.ts'
import { WireError } from '../src/errors.ts'
import { attestationOf, digest, policyFor, recorded } from './attestation-vectors.ts'

const FIELDS = ['attest', 'signature', 'public_area'] as const
const policy = policyFor(['rsassa', 'ecdsa'], ['root'])

function isRefused(attestation: Attestation): boolean {
  return !verifyAttestation(attestation, digest, policy).ok
}

describe('hostile attestation bytes', () => {
  it('cut at any length are refused', () => {
    for (const field of FIELDS) {
      const good = attestationOf('ecdsa')
      const bytes = Buffer.from(good[field], 'base64')
      for (let length = 0; length < bytes.length; length += 1) {
        assert.ok(
          isRefused({ ...good, [field]: bytes.subarray(0, length).toString('base64') }),
          `${field} cut at ${length}`,
        )
      }
    }
  })

  it('with a tail are refused', () => {
    for (const field of FIELDS) {
      const good = attestationOf('ecdsa')
      const tailed = Buffer.concat([Buffer.from(good[field], 'base64'), Buffer.of(0)]).toString('base64')
      assert.ok(isRefused({ ...good, [field]: tailed }), field)
    }
  })

  it('with any single byte changed are refused', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('rsassa' as const, 'ecdsa' as const),
        fc.constantFrom(...FIELDS),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (name, field, position, flip) => {
          const good = attestationOf(name)
          const bytes = Buffer.from(good[field], 'base64')
          const offset = position % bytes.length
          bytes.writeUInt8(bytes.readUInt8(offset) ^ flip, offset)
          return isRefused({ ...good, [field]: bytes.toString('base64') })
        },
      ),
      { numRuns: 300, seed: 7 },
    )
  })

  it('that are random are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.constantFrom(...FIELDS), (bytes, field) =>
        isRefused({ ...attestationOf('rsassa'), [field]: Buffer.from(bytes).toString('base64') }),
      ),
      { numRuns: 300, seed: 7 },
    )
  })

  it('of the wrong JSON type are refused', () => {
    const bad: Partial<Record<keyof Tpm2Attestation, unknown>>[] = [
      { attest: 5 },
      { attest: 'not base64!' },
      { pcrs: null },
      { pcrs: [{ bank: 'sha1', index: 0, value: '' }] },
      { pcrs: [{ bank: 'sha256', index: 0, value: 'AB'.repeat(32) }] },
      { certificates: 'x' },
      { certificates: ['AAAA'] },
      { certificates: Array.from({ length: 9 }, () => recorded.certificates.root) },
    ]
    for (const change of bad) {
      const attestation = { ...attestationOf('rsassa'), ...change } as Tpm2Attestation
      const verdict = verifyAttestation(attestation, digest, { ...policy, trustedKeyNames: [] })
      assert.deepEqual(
        verdict.checks.map(({ name, ok }) => [name, ok]),
        [['format', false]],
        JSON.stringify(change).slice(0, 80),
      )
    }
  })

  it('that claim more selections than the limit allocate nothing', () => {
    const bytes = Buffer.from(recorded.quotes.rsassa.attest, 'base64')
    bytes.writeUInt32BE(0xffffffff, 101)
    assert.throws(
      () => parseTpmAttest(bytes),
      (error) => error instanceof WireError && /claims 4294967295 PCR selections/.test(error.message),
    )
  })
})
