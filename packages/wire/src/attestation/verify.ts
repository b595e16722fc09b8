/**
 * Verifies a delta's attestation against what the verifier demands. Every check that can be made is made and named;
 * malformed bytes are a failed check, never an exception. It proves which TPM quoted the digest and in which measured
 * state; it does not prove that training happened (that is the replay's part).
 */

import { createHash } from 'node:crypto'

import { WireError } from '../errors.ts'
import { certificateChainFault, parseCertificate } from './certificate-chain.ts'
import { parseTpmAttest, type TpmAttest } from './tpm-attest.ts'
import { MAX_CERTIFICATES, TPM_GENERATED_VALUE, TPM_HASHES, TPM_ST_ATTEST_QUOTE } from './tpm-constants.ts'
import { missingAttributes, parseTpmPublic, type TpmPublic } from './tpm-public.ts'
import { parseTpmSignature, tpmSignatureFault, type TpmSignature } from './tpm-signature.ts'
import type {
  Attestation,
  AttestationCheck,
  AttestationPolicy,
  AttestationVerdict,
  PcrValue,
  Tpm2Attestation,
  Tpm2Facts,
} from './types.ts'

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

function fromBase64(text: unknown, what: string): Uint8Array {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'base64') : null
  if (bytes === null || bytes.length === 0 || bytes.toString('base64') !== text) {
    throw new WireError('BAD_ATTESTATION', `${what} is not base64 text`)
  }
  return new Uint8Array(bytes)
}

function isPcrValue(value: unknown): value is PcrValue {
  if (typeof value !== 'object' || value === null) return false
  const { bank, index, value: digest } = value as Record<string, unknown>
  const digestChars = { sha256: 64, sha384: 96, sha512: 128 }[String(bank)]
  return (
    digestChars !== undefined &&
    Number.isInteger(index) &&
    typeof digest === 'string' &&
    digest.length === digestChars &&
    /^[0-9a-f]*$/.test(digest)
  )
}

interface Parts {
  attestBytes: Uint8Array
  attest: TpmAttest
  publicArea: TpmPublic
  signature: TpmSignature
  pcrs: readonly PcrValue[]
  certificates: readonly Uint8Array[]
}

function parseParts(attestation: Tpm2Attestation): Parts {
  const { pcrs, certificates } = attestation as { pcrs: unknown; certificates: unknown }
  if (!Array.isArray(pcrs) || pcrs.length > 512 || !pcrs.every(isPcrValue)) {
    throw new WireError(
      'BAD_ATTESTATION',
      'pcrs is not a list of { bank, index, value } with lower-case hex values',
    )
  }
  if (!Array.isArray(certificates) || certificates.length > MAX_CERTIFICATES) {
    throw new WireError(
      'BAD_ATTESTATION',
      `certificates is not a list of at most ${MAX_CERTIFICATES} DER certificates`,
    )
  }
  const attestBytes = fromBase64(attestation.attest, 'attest')
  return {
    attestBytes,
    attest: parseTpmAttest(attestBytes),
    publicArea: parseTpmPublic(fromBase64(attestation.public_area, 'public_area')),
    signature: parseTpmSignature(fromBase64(attestation.signature, 'signature')),
    pcrs,
    certificates: certificates.map((der, at) => fromBase64(der, `certificate ${at}`)),
  }
}

/** The quoted PCRs as `bank:index`, in the order in which the TPM concatenates their values. */
function quotedPcrs(attest: TpmAttest): string[] {
  return (attest.quote?.selections ?? []).flatMap(({ hash, indices }) =>
    indices.map((index) => `${TPM_HASHES.get(hash)?.name ?? `0x${hash.toString(16)}`}:${index}`),
  )
}

type Check = AttestationCheck

function check(name: Check['name'], fault: string | null, good: string): Check {
  return { name, ok: fault === null, detail: fault ?? good }
}

function pcrChecks(parts: Parts, policy: AttestationPolicy): Check[] {
  const { attest, pcrs, signature } = parts
  const quoted = quotedPcrs(attest)
  const given = pcrs.map(({ bank, index }) => `${bank}:${index}`)
  const isSameSelection = quoted.join() === given.join()
  const digest = createHash(signature.hash)
  for (const { value } of pcrs) digest.update(value, 'hex')
  const computed = digest.digest('hex')
  const signed = hex(attest.quote?.pcrDigest ?? new Uint8Array(0))
  const wrong = policy.pcrs.filter(
    (wanted) =>
      !pcrs.some(
        (pcr) => pcr.bank === wanted.bank && pcr.index === wanted.index && pcr.value === wanted.value,
      ),
  )
  const wrongNames = wrong.map(({ bank, index, value }) => {
    const seen = pcrs.find((pcr) => pcr.bank === bank && pcr.index === index)?.value ?? 'not quoted'
    return `${bank}:${index} is ${seen}, wanted ${value}`
  })
  return [
    check(
      'pcr_selection',
      isSameSelection
        ? null
        : `the quote selects [${quoted.join(' ')}], the values given are for [${given.join(' ')}]`,
      `${quoted.length} PCRs`,
    ),
    check(
      'pcr_digest',
      computed === signed ? null : `the values given hash to ${computed}, the TPM signed ${signed}`,
      signed,
    ),
    check(
      'pcr_values',
      wrong.length === 0 ? null : wrongNames.join('; '),
      `${policy.pcrs.length} demanded values hold`,
    ),
  ]
}

function trustChecks(parts: Parts, policy: AttestationPolicy): Check[] {
  const keyName = hex(parts.publicArea.name)
  const isPinned = policy.trustedKeyNames.some((name) => name.toLowerCase() === keyName)
  const checks: Check[] = []
  let isChained = false
  // An enrolled key needs no chain: its own may lead to an authority that this verifier does not know.
  if (!isPinned && (parts.certificates.length > 0 || policy.roots.length > 0)) {
    const chain = parts.certificates.map((der, at) => parseCertificate(der, `certificate ${at}`))
    const roots = policy.roots.map((pem, at) => parseCertificate(pem, `root ${at}`))
    const fault = certificateChainFault(chain, parts.publicArea.key, roots, policy.now)
    isChained = fault === null
    checks.push(check('certificate_chain', fault, 'leads to a trusted root'))
  }
  const isTrusted = isPinned || isChained
  checks.push(
    check(
      'trust',
      isTrusted ? null : `attestation key ${keyName} is neither enrolled nor certified by a trusted root`,
      isPinned ? `key ${keyName} is enrolled` : `key ${keyName} is certified`,
    ),
  )
  return checks
}

function verifyTpm2(
  attestation: Tpm2Attestation,
  digest: Uint8Array,
  policy: AttestationPolicy,
): AttestationVerdict {
  let parts: Parts
  let trust: Check[]
  try {
    parts = parseParts(attestation)
    trust = trustChecks(parts, policy)
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    return { type: 'tpm2', ok: false, checks: [check('format', error.message, '')], tpm2: null }
  }
  const { attest, publicArea, signature } = parts
  const missing = missingAttributes(publicArea.attributes)
  const checks: Check[] = [
    check(
      'format',
      null,
      `${publicArea.kind} ${publicArea.bits} key, ${signature.scheme} with ${signature.hash}`,
    ),
    check(
      'magic',
      attest.magic === TPM_GENERATED_VALUE
        ? null
        : `the structure starts with 0x${attest.magic.toString(16)}, a TPM writes 0x${TPM_GENERATED_VALUE.toString(16)}`,
      'made by a TPM',
    ),
    check(
      'type',
      attest.type === TPM_ST_ATTEST_QUOTE
        ? null
        : `attestation type 0x${attest.type.toString(16)} is not a quote (0x${TPM_ST_ATTEST_QUOTE.toString(16)})`,
      'quote',
    ),
    check(
      'extra_data',
      hex(attest.extraData) === hex(digest)
        ? null
        : `the quote is over ${hex(attest.extraData) || 'nothing'}, this delta is ${hex(digest)}`,
      hex(digest),
    ),
    check(
      'key_attributes',
      missing.length === 0 ? null : `the key is not: ${missing.join(', ')}`,
      'restricted TPM signing key',
    ),
    check('signature', tpmSignatureFault(parts.attestBytes, signature, publicArea), 'verifies'),
    ...pcrChecks(parts, policy),
    ...trust,
  ]
  const tpm2: Tpm2Facts = {
    keyName: hex(publicArea.name),
    firmwareVersion: attest.firmwareVersion.toString(16).padStart(16, '0'),
    clockMs: attest.clockMs,
    resetCount: attest.resetCount,
    restartCount: attest.restartCount,
  }
  return { type: 'tpm2', ok: checks.every(({ ok }) => ok), checks, tpm2 }
}

/**
 * Checks an attestation over `digest` (the delta's 32-byte attestation digest). A type this build does not know is a
 * failed `format` check: it is never taken for a good one.
 */
export function verifyAttestation(
  attestation: Attestation,
  digest: Uint8Array,
  policy: AttestationPolicy,
): AttestationVerdict {
  switch (attestation.type) {
    case 'none': {
      const fault = policy.required ? 'the delta carries no attestation and one is required' : null
      return {
        type: 'none',
        ok: fault === null,
        checks: [check('required', fault, 'none demanded')],
        tpm2: null,
      }
    }
    case 'tpm2':
      return verifyTpm2(attestation, digest, policy)
    default: {
      const type = String((attestation as { type?: unknown }).type).slice(0, 40)
      const detail = `attestation type ${JSON.stringify(type)} is not known here; known are none and tpm2`
      return { type: 'none', ok: false, checks: [check('format', detail, '')], tpm2: null }
    }
  }
}
