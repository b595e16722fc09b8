/** Defaults and limits of attestation, with unit and reason. */

/** Persistent handle of the attestation key: first of the range that the TCG leaves to owners' keys besides the EK. */
export const DEFAULT_TPM2_KEY_HANDLE = '0x81010002'

/** PCRs quoted: firmware, its configuration, option ROMs, boot loader, secure-boot state (TCG PC Client, table 1). */
export const DEFAULT_TPM2_PCRS: readonly number[] = [0, 1, 2, 3, 4, 7]

/** Deadline of one TPM command, ms: a slow discrete TPM signs RSA-2048 in about a second. */
export const DEFAULT_TPM2_TIMEOUT_MS = 30_000

/** Largest output of a TPM tool that is kept, bytes: it is only for the error message. */
export const MAX_TOOL_OUTPUT_BYTES = 65_536
