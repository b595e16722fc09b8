/** Quotes a digest with this machine's TPM through tpm2-tools (5.0 or newer), and checks the quote before it goes out. */

import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseTpmPublic, verifyAttestation, type PcrValue, type Tpm2Attestation } from '@gym-node/wire'
import { messageOf, NodeError } from '../errors.ts'
import type { Attester } from './attester-types.ts'
import type { AttestationConfig } from './config.ts'
import { runTpm2Tool } from './tpm2-tool.ts'

const SHA256_BYTES = 32

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** The certificates of PEM files, in order, as base64 DER. */
async function readCertificates(paths: readonly string[]): Promise<string[]> {
  const chain: string[] = []
  for (const path of paths) {
    try {
      const pem = await readFile(path, 'utf8')
      const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
      if (blocks.length === 0) throw new Error('no PEM certificate in it')
      for (const block of blocks) chain.push(base64(new X509Certificate(block).raw))
    } catch (cause) {
      throw new NodeError('ATTESTATION_UNAVAILABLE', `certificate file ${path}: ${messageOf(cause)}`, {
        cause,
      })
    }
  }
  return chain
}

/** Splits the concatenated PCR values that `tpm2_quote -F values` writes, ascending by index as the TPM hashes them. */
function splitPcrs(bytes: Uint8Array, indices: readonly number[]): PcrValue[] {
  if (bytes.length !== indices.length * SHA256_BYTES) {
    throw new NodeError(
      'ATTESTATION_UNAVAILABLE',
      `tpm2_quote gave ${bytes.length} bytes of PCR values, expected ${indices.length} of ${SHA256_BYTES} bytes: is the SHA-256 bank on?`,
    )
  }
  return indices.map((index, at) => {
    const value = Buffer.from(bytes.subarray(at * SHA256_BYTES, (at + 1) * SHA256_BYTES)).toString('hex')
    return { bank: 'sha256', index, value }
  })
}

async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'gym-node-tpm2-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Reads the attestation key's public area and returns its attester. Throws NodeError('ATTESTATION_UNAVAILABLE') with
 * what the tool said when the TPM cannot be reached or holds no such key.
 */
export async function openTpm2Attester(config: AttestationConfig): Promise<Attester> {
  const environment: Record<string, string> =
    config.tpm2_tcti === null ? {} : { TPM2TOOLS_TCTI: config.tpm2_tcti }
  const timeoutMs = config.tpm2_timeout_ms
  const indices = [...new Set(config.tpm2_pcrs)].sort((left, right) => left - right)
  const certificates = await readCertificates(config.tpm2_certificates)
  const publicArea = await inTemporaryFolder(async (folder) => {
    const path = join(folder, 'ak.pub')
    await runTpm2Tool('tpm2_readpublic', ['-c', config.tpm2_key_handle, '-o', path], {
      environment,
      timeoutMs,
    })
    return readFile(path)
  })
  const keyName = Buffer.from(parseTpmPublic(publicArea).name).toString('hex')

  async function quote(digest: Uint8Array, signal: AbortSignal | undefined): Promise<Tpm2Attestation> {
    return inTemporaryFolder(async (folder) => {
      const [attest, signature, pcrs] = ['attest', 'signature', 'pcrs'].map((name) => join(folder, name)) as [
        string,
        string,
        string,
      ]
      const hex = Buffer.from(digest).toString('hex')
      const what = [
        '-c',
        config.tpm2_key_handle,
        '-l',
        `sha256:${indices.join(',')}`,
        '-q',
        hex,
        '-g',
        'sha256',
      ]
      const where = ['-m', attest, '-s', signature, '-o', pcrs, '-F', 'values']
      await runTpm2Tool('tpm2_quote', [...what, ...where], { environment, timeoutMs, signal })
      return {
        type: 'tpm2',
        public_area: base64(publicArea),
        attest: base64(await readFile(attest)),
        signature: base64(await readFile(signature)),
        pcrs: splitPcrs(await readFile(pcrs), indices),
        certificates,
      }
    })
  }

  return {
    type: 'tpm2',
    async attest(digest, options = {}) {
      const attestation = await quote(digest, options.signal)
      const own = { required: true, trustedKeyNames: [keyName], roots: [], pcrs: [], now: new Date() }
      const failed = verifyAttestation(attestation, digest, own).checks.filter(({ ok }) => !ok)
      if (failed.length > 0) {
        const why = failed.map(({ name, detail }) => `${name}: ${detail}`).join('; ')
        throw new NodeError('ATTESTATION_UNAVAILABLE', `the TPM's quote does not verify: ${why}`)
      }
      return attestation
    },
  }
}
