/** Quotes recorded from a TPM verify, and every field that is altered fails under its own name. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

import type {
  Attestation,
  AttestationPolicy,
  AttestationVerdict,
  Tpm2Attestation,
} from '../src/attestation/types.ts'
import { verifyAttestation } from '../src/attestation/verify.ts'
import { attestationOf, digest, policyFor, recorded, type CertificateName } from './attestation-vectors.ts'

function failed(verdict: AttestationVerdict): string[] {
  return verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name)
}

function detail(verdict: AttestationVerdict, name: string): string {
  return verdict.checks.find((check) => check.name === name)?.detail ?? ''
}

/** The recorded bytes with one byte of `field` flipped at `offset`. */
function flipped(
  attestation: Tpm2Attestation,
  field: 'attest' | 'signature' | 'public_area',
  offset: number,
): Tpm2Attestation {
  const bytes = Buffer.from(attestation[field], 'base64')
  bytes.writeUInt8(bytes.readUInt8(offset) ^ 1, offset)
  return { ...attestation, [field]: bytes.toString('base64') }
}

describe('a quote from a TPM', () => {
  for (const name of ['rsassa', 'rsapss', 'ecdsa'] as const) {
    it(`verifies when made with ${name} by an enrolled key`, () => {
      const verdict = verifyAttestation(attestationOf(name), digest, policyFor([name]))
      assert.deepEqual(failed(verdict), [])
      assert.equal(verdict.ok, true)
      assert.equal(verdict.tpm2?.keyName, recorded.quotes[name].name, "the TPM's own name of its key")
    })
  }

  it('reports firmware, clock and reset counters as the TPM signed them', () => {
    const facts = verifyAttestation(attestationOf('rsassa'), digest, policyFor(['rsassa'])).tpm2
    // Read by eye from the recorded TPMS_ATTEST: firmwareVersion 2019102300163636, resetCount 2, restartCount 0.
    assert.equal(facts?.firmwareVersion, '2019102300163636')
    assert.equal(facts?.resetCount, 2)
    assert.equal(facts?.restartCount, 0)
    assert.equal(facts?.clockMs, 0x141)
  })

  it('is refused for another delta', () => {
    const other = Uint8Array.from(digest, (byte) => byte ^ 0x80)
    const verdict = verifyAttestation(attestationOf('ecdsa'), other, policyFor(['ecdsa']))
    assert.deepEqual(failed(verdict), ['extra_data'])
    assert.match(detail(verdict, 'extra_data'), /0011223344.*this delta is 8091a2b3/)
  })

  it('is refused when nobody vouches for its key', () => {
    const verdict = verifyAttestation(attestationOf('ecdsa'), digest, policyFor(['rsassa']))
    assert.deepEqual(failed(verdict), ['trust'])
  })

  it('is refused when its key could sign anything, even an enrolled one', () => {
    const verdict = verifyAttestation(attestationOf('loose'), digest, policyFor(['loose']))
    assert.deepEqual(failed(verdict), ['key_attributes'])
    assert.match(detail(verdict, 'key_attributes'), /restricted/)
  })

  it('is refused when the TPM signed something that is no quote', () => {
    const attestation: Attestation = { ...attestationOf('rsassa'), ...recorded.certify }
    const verdict = verifyAttestation(attestation, digest, policyFor(['rsassa']))
    assert.ok(!failed(verdict).includes('signature'), 'the TPM did sign it')
    assert.ok(failed(verdict).includes('type'))
    assert.match(detail(verdict, 'type'), /0x8017 is not a quote/)
  })
})

describe('tampering', () => {
  // Offsets in the recorded TPMS_ATTEST (Part 2, 10.12.12): magic 0, type 4, qualifiedSigner 6, extraData 42,
  // clock 76, resetCount 84, firmwareVersion 93, selection 101 (bitmap 108), pcrDigest 113.
  const fields: readonly [name: string, offset: number, also: string][] = [
    ['magic', 0, 'magic'],
    ['type', 5, 'type'],
    ['qualifiedSigner', 20, 'signature'],
    ['extraData', 50, 'extra_data'],
    ['clock', 80, 'signature'],
    ['resetCount', 87, 'signature'],
    ['firmwareVersion', 95, 'signature'],
    ['PCR bitmap', 108, 'pcr_selection'],
    ['pcrDigest', 120, 'pcr_digest'],
  ]
  for (const [name, offset, also] of fields) {
    it(`with ${name} fails the signature${also === 'signature' ? '' : ` and ${also}`}`, () => {
      const verdict = verifyAttestation(
        flipped(attestationOf('rsassa'), 'attest', offset),
        digest,
        policyFor(['rsassa']),
      )
      assert.equal(verdict.ok, false)
      assert.ok(failed(verdict).includes('signature'), failed(verdict).join())
      assert.ok(failed(verdict).includes(also), failed(verdict).join())
    })
  }

  it('with the signature fails only the signature', () => {
    for (const name of ['rsassa', 'rsapss', 'ecdsa'] as const) {
      const verdict = verifyAttestation(
        flipped(attestationOf(name), 'signature', 40),
        digest,
        policyFor([name]),
      )
      assert.deepEqual(failed(verdict), ['signature'], name)
    }
  })

  it('with a PCR value fails the PCR digest', () => {
    const attestation = attestationOf('ecdsa')
    const pcrs = attestation.pcrs.map((pcr) => (pcr.index === 10 ? { ...pcr, value: 'ab'.repeat(32) } : pcr))
    assert.deepEqual(failed(verifyAttestation({ ...attestation, pcrs }, digest, policyFor(['ecdsa']))), [
      'pcr_digest',
    ])
  })

  it('with the list of PCRs fails the selection', () => {
    const attestation = attestationOf('ecdsa')
    const pcrs = attestation.pcrs.map((pcr) => (pcr.index === 10 ? { ...pcr, index: 11 } : pcr))
    const verdict = verifyAttestation({ ...attestation, pcrs }, digest, policyFor(['ecdsa']))
    assert.deepEqual(failed(verdict), ['pcr_selection'])
  })

  it("with the key's attributes loses the key's name, so its enrolment", () => {
    // objectAttributes are bytes 6..9 of TPM2B_PUBLIC; bit 16 (restricted) is the lowest of byte 7.
    const verdict = verifyAttestation(
      flipped(attestationOf('loose'), 'public_area', 7),
      digest,
      policyFor(['loose']),
    )
    assert.ok(failed(verdict).includes('trust'))
    assert.ok(!failed(verdict).includes('key_attributes'), 'the lie itself would have passed')
  })

  it("with another key's public area fails the signature", () => {
    const attestation = { ...attestationOf('rsassa'), public_area: recorded.quotes.rsapss.public_area }
    const verdict = verifyAttestation(attestation, digest, policyFor(['rsassa', 'rsapss']))
    assert.deepEqual(failed(verdict), ['signature'])
  })
})

describe('certificates', () => {
  const policy = (roots: readonly CertificateName[]): AttestationPolicy => policyFor([], roots)

  it('make a key trusted when they lead to a root', () => {
    for (const name of ['rsassa', 'ecdsa'] as const) {
      const verdict = verifyAttestation(attestationOf(name, [name, 'intermediate']), digest, policy(['root']))
      assert.deepEqual(failed(verdict), [], name)
    }
  })

  it('may include the root itself', () => {
    const attestation = attestationOf('ecdsa', ['ecdsa', 'intermediate', 'root'])
    assert.equal(verifyAttestation(attestation, digest, policy(['root'])).ok, true)
  })

  const bad: readonly [claim: string, chain: CertificateName[], roots: CertificateName[], reason: RegExp][] =
    [
      ['that lead to another root', ['ecdsa', 'intermediate'], ['other_root'], /no trusted root/],
      ['with a missing link', ['ecdsa'], ['root'], /no trusted root/],
      ['of another key', ['rsassa', 'intermediate'], ['root'], /not for the attestation key/],
      ['in the wrong order', ['ecdsa', 'root', 'intermediate'], ['other_root'], /not issued by the next/],
      ['issued by one that is no CA', ['ecdsa_by_leaf', 'leaf', 'intermediate'], ['root'], /not a CA/],
      ['that are missing', [], ['root'], /no certificate/],
    ]
  for (const [claim, chain, roots, reason] of bad) {
    it(`${claim} are refused`, () => {
      const verdict = verifyAttestation(attestationOf('ecdsa', chain), digest, policy(roots))
      assert.deepEqual(failed(verdict), ['certificate_chain', 'trust'])
      assert.match(detail(verdict, 'certificate_chain'), reason)
    })
  }

  it('that have expired are refused', () => {
    const now = new Date(policy(['root']).now.getTime() + 3 * 86_400_000)
    const attestation = attestationOf('ecdsa', ['ecdsa_one_day', 'intermediate'])
    assert.equal(verifyAttestation(attestation, digest, policy(['root'])).ok, true)
    const verdict = verifyAttestation(attestation, digest, { ...policy(['root']), now })
    assert.match(detail(verdict, 'certificate_chain'), /is valid from .* not at/)
  })
})

describe('a policy', () => {
  it('may demand PCR values', () => {
    const attestation = attestationOf('ecdsa')
    const demanded = attestation.pcrs.filter(({ index }) => index === 10)
    const good = { ...policyFor(['ecdsa']), pcrs: demanded }
    assert.equal(verifyAttestation(attestation, digest, good).ok, true)
    const other = { ...good, pcrs: demanded.map((pcr) => ({ ...pcr, value: '00'.repeat(32) })) }
    const verdict = verifyAttestation(attestation, digest, other)
    assert.deepEqual(failed(verdict), ['pcr_values'])
    assert.match(detail(verdict, 'pcr_values'), /sha256:10 is d4814449.*, wanted 0000/)
    const unquoted = { ...good, pcrs: demanded.map((pcr) => ({ ...pcr, index: 7 })) }
    assert.match(
      detail(verifyAttestation(attestation, digest, unquoted), 'pcr_values'),
      /sha256:7 is not quoted/,
    )
  })

  it('that requires an attestation refuses none, and otherwise accepts it', () => {
    assert.deepEqual(failed(verifyAttestation({ type: 'none' }, digest, policyFor([]))), ['required'])
    assert.equal(verifyAttestation({ type: 'none' }, digest, { ...policyFor([]), required: false }).ok, true)
  })

  it('never takes an unknown kind for a good one', () => {
    const unknown = { type: 'nvidia-cc', report: 'AAAA' } as unknown as Attestation
    const verdict = verifyAttestation(unknown, digest, { ...policyFor([]), required: false })
    assert.deepEqual(failed(verdict), ['format'])
    assert.match(detail(verdict, 'format'), /"nvidia-cc" is not known/)
  })
})
