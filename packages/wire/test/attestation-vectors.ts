/** The recorded TPM quotes as attestations, for the attestation tests. */

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'

import type { AttestationPolicy, PcrValue, Tpm2Attestation } from '../src/attestation/types.ts'

export type QuoteName = 'rsassa' | 'rsapss' | 'ecdsa' | 'loose'
export type CertificateName =
  'root' | 'other_root' | 'intermediate' | 'leaf' | 'rsassa' | 'ecdsa' | 'ecdsa_one_day' | 'ecdsa_by_leaf'

interface RecordedQuote {
  public_area: string
  name: string
  attest: string
  signature: string
  pcrs: string
}

interface Recorded {
  digest: string
  quotes: Record<QuoteName, RecordedQuote>
  certify: { attest: string; signature: string }
  certificates: Record<CertificateName, string>
}

const path = new URL('./vectors/tpm2/quotes.json', import.meta.url)
export const recorded = JSON.parse(readFileSync(path, 'utf8')) as Recorded
export const digest: Uint8Array = Buffer.from(recorded.digest, 'hex')

/** A recorded quote with the certificates named, leaf first. */
export function attestationOf(
  name: QuoteName,
  certificates: readonly CertificateName[] = [],
): Tpm2Attestation {
  const quote = recorded.quotes[name]
  const pcrs = [0, 1, 10].map((index, at): PcrValue => ({
    bank: 'sha256',
    index,
    value: quote.pcrs.slice(64 * at, 64 * at + 64),
  }))
  const { public_area, attest, signature } = quote
  const chain = certificates.map((certificate) => recorded.certificates[certificate])
  return { type: 'tpm2', public_area, attest, signature, pcrs, certificates: chain }
}

/** A certificate as PEM. */
export function pemOf(name: CertificateName): string {
  return new X509Certificate(Buffer.from(recorded.certificates[name], 'base64')).toString()
}

/** A policy that enrols the named keys; the time is an hour after the recording's certificates begin. */
export function policyFor(
  keys: readonly QuoteName[],
  roots: readonly CertificateName[] = [],
): AttestationPolicy {
  const begin = new X509Certificate(Buffer.from(recorded.certificates.root, 'base64')).validFrom
  return {
    required: true,
    trustedKeyNames: keys.map((key) => recorded.quotes[key].name),
    roots: roots.map(pemOf),
    pcrs: [],
    now: new Date(Date.parse(begin) + 3_600_000),
  }
}
