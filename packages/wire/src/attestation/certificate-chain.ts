/**
 * Checks that an attestation key's certificate leads to a trusted root (RFC 5280, section 6.1: signatures, names,
 * validity, CA flag). Path length and name constraints, policies and revocation are not looked at: give narrow roots.
 */

import { X509Certificate, type KeyObject } from 'node:crypto'

import { WireError } from '../errors.ts'
import { MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES } from './tpm-constants.ts'

/** Parses DER or PEM; throws `WireError('BAD_ATTESTATION')` naming which certificate is not one. */
export function parseCertificate(bytes: Uint8Array | string, what: string): X509Certificate {
  if (bytes.length > MAX_CERTIFICATE_BYTES) {
    throw new WireError(
      'BAD_ATTESTATION',
      `${what} is ${bytes.length} bytes, the limit is ${MAX_CERTIFICATE_BYTES}`,
    )
  }
  try {
    return new X509Certificate(bytes)
  } catch (cause) {
    throw new WireError('BAD_ATTESTATION', `${what} is not an X.509 certificate`, { cause })
  }
}

function validityFault(certificate: X509Certificate, now: Date): string | null {
  const from = new Date(certificate.validFrom)
  const to = new Date(certificate.validTo)
  if (now >= from && now <= to) return null
  return `${certificate.subject} is valid from ${from.toISOString()} to ${to.toISOString()}, not at ${now.toISOString()}`
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)
}

/** The chain's fault, or null: the first certificate holds `key`, each is issued by the next, the last by a root. */
export function certificateChainFault(
  chain: readonly X509Certificate[],
  key: KeyObject,
  roots: readonly X509Certificate[],
  now: Date,
): string | null {
  const [leaf] = chain
  if (leaf === undefined) return 'the attestation carries no certificate'
  if (chain.length > MAX_CERTIFICATES)
    return `the chain has ${chain.length} certificates, the limit is ${MAX_CERTIFICATES}`
  if (!leaf.publicKey.equals(key))
    return `the first certificate (${leaf.subject}) is not for the attestation key`
  for (const [at, certificate] of chain.entries()) {
    const expired = validityFault(certificate, now)
    if (expired !== null) return expired
    const anchor = roots.find((root) => root.fingerprint256 === certificate.fingerprint256)
    if (anchor !== undefined) return null
    const root = roots.find((candidate) => isIssuedBy(certificate, candidate))
    if (root !== undefined) return root.ca ? validityFault(root, now) : `the root ${root.subject} is not a CA`
    const next = chain[at + 1]
    if (next === undefined)
      return `${certificate.subject} is issued by ${certificate.issuer}, which is no trusted root`
    if (!next.ca) return `${next.subject} issued a certificate but is not a CA`
    if (!isIssuedBy(certificate, next))
      return `${certificate.subject} is not issued by the next certificate, ${next.subject}`
  }
  return 'the chain leads to no trusted root'
}
