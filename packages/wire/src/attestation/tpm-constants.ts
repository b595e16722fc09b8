/** Numbers of the TPM 2.0 Library specification, Part 2, and the limits of what is parsed. */

/** TPM_GENERATED_VALUE (section 6.2): first bytes of every structure that a TPM itself made, "\xffTCG". */
export const TPM_GENERATED_VALUE = 0xff544347

/** TPM_ST_ATTEST_QUOTE (section 6.9). */
export const TPM_ST_ATTEST_QUOTE = 0x8018

/** TPM_ALG_ID (section 6.3), the ones a quote may use. */
export const TPM_ALG = {
  RSA: 0x0001,
  SHA1: 0x0004,
  SHA256: 0x000b,
  SHA384: 0x000c,
  SHA512: 0x000d,
  NULL: 0x0010,
  RSASSA: 0x0014,
  RSAPSS: 0x0016,
  ECDSA: 0x0018,
  ECC: 0x0023,
} as const

/** Hashes accepted for signatures, names and PCR banks. SHA-1 is left out: collisions are practical. */
export const TPM_HASHES: ReadonlyMap<number, { readonly name: 'sha256' | 'sha384' | 'sha512' }> = new Map([
  [TPM_ALG.SHA256, { name: 'sha256' }],
  [TPM_ALG.SHA384, { name: 'sha384' }],
  [TPM_ALG.SHA512, { name: 'sha512' }],
])

/** TPM_ECC_CURVE (section 6.4) with JWK names and the bytes of a coordinate. */
export const TPM_CURVES: ReadonlyMap<number, { readonly jwk: string; readonly coordinateBytes: number }> =
  new Map([
    [0x0003, { jwk: 'P-256', coordinateBytes: 32 }],
    [0x0004, { jwk: 'P-384', coordinateBytes: 48 }],
    [0x0005, { jwk: 'P-521', coordinateBytes: 66 }],
  ])

/** TPMA_OBJECT bits (section 8.3.2) that make a key one with which only the TPM itself can sign a quote. */
export const TPMA_OBJECT = {
  fixedTPM: 1 << 1,
  fixedParent: 1 << 4,
  sensitiveDataOrigin: 1 << 5,
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
} as const

/** Shortest RSA modulus accepted, bits (NIST SP 800-131A: 112-bit security). */
export const MIN_RSA_BITS = 2048

/** Largest TPM structure parsed, bytes: an RSA-4096 public area is under 700, a quote of all banks under 400. */
export const MAX_TPM_STRUCTURE_BYTES = 4096

/** Most PCR selections in a quote: one for each bank a TPM may have. */
export const MAX_PCR_SELECTIONS = 16

/** Most bytes of one PCR selection's bitmap: 32 PCRs; a PC client TPM has 24. */
export const MAX_PCR_SELECT_BYTES = 4

/** Most certificates in a chain, and the largest of one, bytes. */
export const MAX_CERTIFICATES = 8
export const MAX_CERTIFICATE_BYTES = 16 * 1024
