/** Parses TPMS_ATTEST, the structure a TPM signs in a quote. Says what is inside; judges only what it cannot parse. */

import { WireError } from '../errors.ts'
import {
  MAX_PCR_SELECT_BYTES,
  MAX_PCR_SELECTIONS,
  TPM_GENERATED_VALUE,
  TPM_ST_ATTEST_QUOTE,
} from './tpm-constants.ts'
import { TpmReader } from './tpm-reader.ts'

/** PCRs selected in one bank, indices ascending. */
export interface PcrSelection {
  /** TPM_ALG_ID of the bank's hash. */
  readonly hash: number
  readonly indices: readonly number[]
}

/** TPMS_ATTEST up to its type-specific part (Part 2, section 10.12.12). */
export interface TpmAttest {
  readonly magic: number
  readonly type: number
  readonly qualifiedSigner: Uint8Array
  readonly extraData: Uint8Array
  readonly clockMs: number
  readonly resetCount: number
  readonly restartCount: number
  readonly isClockSafe: boolean
  readonly firmwareVersion: bigint
  /** TPMS_QUOTE_INFO (section 10.12.1); null when magic or type say that this is something else. */
  readonly quote: { readonly selections: readonly PcrSelection[]; readonly pcrDigest: Uint8Array } | null
}

function readSelection(reader: TpmReader, at: number): PcrSelection {
  const hash = reader.u16(`selection ${at} hash`)
  const size = reader.u8(`selection ${at} size`)
  if (size > MAX_PCR_SELECT_BYTES) {
    throw new WireError(
      'BAD_ATTESTATION',
      `selection ${at} has a bitmap of ${size} bytes, the limit is ${MAX_PCR_SELECT_BYTES}`,
    )
  }
  const bitmap = reader.bytes(size, `selection ${at} bitmap`)
  const indices: number[] = []
  for (let index = 0; index < size * 8; index += 1) {
    if (((bitmap[index >> 3] ?? 0) >> (index & 7)) & 1) indices.push(index)
  }
  return { hash, indices }
}

/** Parses a TPMS_ATTEST. Throws `WireError('BAD_ATTESTATION')` on truncated or trailing bytes and lying counts. */
export function parseTpmAttest(bytes: Uint8Array): TpmAttest {
  const reader = new TpmReader(bytes, 'TPMS_ATTEST')
  const magic = reader.u32('magic')
  const type = reader.u16('type')
  const head = {
    magic,
    type,
    qualifiedSigner: reader.sized('qualifiedSigner'),
    extraData: reader.sized('extraData'),
    clockMs: Number(reader.u64('clock')),
    resetCount: reader.u32('resetCount'),
    restartCount: reader.u32('restartCount'),
    isClockSafe: reader.u8('safe') === 1,
    firmwareVersion: reader.u64('firmwareVersion'),
  }
  if (magic !== TPM_GENERATED_VALUE || type !== TPM_ST_ATTEST_QUOTE) return { ...head, quote: null }
  const count = reader.u32('selection count')
  if (count > MAX_PCR_SELECTIONS) {
    throw new WireError(
      'BAD_ATTESTATION',
      `the quote claims ${count} PCR selections, the limit is ${MAX_PCR_SELECTIONS}`,
    )
  }
  const selections: PcrSelection[] = []
  for (let at = 0; at < count; at += 1) selections.push(readSelection(reader, at))
  const pcrDigest = reader.sized('pcrDigest')
  reader.end()
  return { ...head, quote: { selections, pcrDigest } }
}
