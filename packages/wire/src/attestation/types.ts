/** What an attestation of a delta is, as JSON in the delta's metadata, and what a check of one answers. */

/** No attestation: the delta's only proofs are its signatures and its trace. */
export interface NoAttestation {
  readonly type: 'none'
}

/** One PCR's value at the time of the quote. */
export interface PcrValue {
  readonly bank: 'sha256' | 'sha384' | 'sha512'
  readonly index: number
  /** Lower-case hex. */
  readonly value: string
}

/**
 * A TPM 2.0 quote whose `extraData` is the delta's attestation digest. The byte fields are base64 and hold the
 * structures of "TPM 2.0 Library, Part 2: Structures" as the TPM marshals them (big-endian).
 */
export interface Tpm2Attestation {
  readonly type: 'tpm2'
  /** TPM2B_PUBLIC of the attestation key (section 12.2.5). */
  readonly public_area: string
  /** TPMS_ATTEST that the TPM signed (section 10.12.12). */
  readonly attest: string
  /** TPMT_SIGNATURE over it (section 11.3.4). */
  readonly signature: string
  /** Values of every quoted PCR, ordered as the quote selects them. */
  readonly pcrs: readonly PcrValue[]
  /** X.509 certificates in DER, the attestation key's first, each issued by the next; the root may be left out. */
  readonly certificates: readonly string[]
}

/** The attestation field of a delta's metadata. `docs/VALIDATION.md` says where another kind would be added. */
export type Attestation = NoAttestation | Tpm2Attestation

/** One named check, and what was seen where it matters. */
export interface AttestationCheck {
  readonly name:
    | 'format'
    | 'required'
    | 'magic'
    | 'type'
    | 'extra_data'
    | 'key_attributes'
    | 'signature'
    | 'pcr_selection'
    | 'pcr_digest'
    | 'pcr_values'
    | 'certificate_chain'
    | 'trust'
  readonly ok: boolean
  readonly detail: string
}

/** What the TPM said about itself inside the signed structure; meaningful only when every check holds. */
export interface Tpm2Facts {
  /** TPM name of the attestation key: hex of its name algorithm and the hash of its public area. */
  readonly keyName: string
  readonly firmwareVersion: string
  readonly clockMs: number
  readonly resetCount: number
  readonly restartCount: number
}

/** The answer: `ok` only when every check that the policy asks for holds. */
export interface AttestationVerdict {
  readonly type: Attestation['type']
  readonly ok: boolean
  readonly checks: readonly AttestationCheck[]
  readonly tpm2: Tpm2Facts | null
}

/** What a verifier demands. Trust comes from a pinned key or from a certificate chain; one of the two must hold. */
export interface AttestationPolicy {
  /** False: a delta without attestation passes. */
  readonly required: boolean
  /** TPM names (hex) of attestation keys that the operator enrolled. */
  readonly trustedKeyNames: readonly string[]
  /** PEM certificates of attestation authorities. */
  readonly roots: readonly string[]
  /** PCR values that must have been quoted, e.g. a known boot state; empty demands none. */
  readonly pcrs: readonly PcrValue[]
  /** The time at which certificates must be valid. */
  readonly now: Date
}
