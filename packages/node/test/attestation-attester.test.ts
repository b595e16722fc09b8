/** Attestations made by a software TPM (swtpm) with the tools users have verify; where it is not installed, that is said. */

import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, watch } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { verifyAttestation, type AttestationPolicy } from '@gym-node/wire'
import { createAttester } from '../src/attestation/attester.ts'
import { attestationConfigSchema } from '../src/attestation/config.ts'
import { NodeError, type NodeErrorCode } from '../src/errors.ts'

const run = promisify(execFile)

function missingTools(): string | false {
  const missing = ['swtpm', 'tpm2_quote', 'openssl'].filter((tool) => {
    try {
      execFileSync('which', [tool], { stdio: 'ignore' })
      return false
    } catch {
      return true // `which` found nothing
    }
  })
  return missing.length === 0
    ? false
    : `not installed: ${missing.join(', ')} (Debian: swtpm tpm2-tools openssl)`
}

function refusedWith(code: NodeErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof NodeError)
    assert.equal(error.code, code)
    assert.match(error.message, message)
    return true
  }
}

function config(values: object): Parameters<typeof createAttester>[0] {
  return attestationConfigSchema.parse(values)
}

describe('the attester of a configuration', () => {
  it('is none by default', async () => {
    const attester = await createAttester(config({}))
    assert.deepEqual(await attester.attest(new Uint8Array(32)), { type: 'none' })
  })

  it('is an error for NVIDIA confidential computing, which is not built', async () => {
    await assert.rejects(
      createAttester(config({ type: 'nvidia-cc' })),
      refusedWith('ATTESTATION_UNSUPPORTED', /nvidia-cc/),
    )
  })

  it('names the tool that is missing', async () => {
    const path = process.env['PATH']
    process.env['PATH'] = '/nonexistent'
    try {
      const made = createAttester(config({ type: 'tpm2' }))
      await assert.rejects(made, refusedWith('ATTESTATION_UNAVAILABLE', /tpm2_readpublic is not installed/))
    } finally {
      process.env['PATH'] = path
    }
  })
})

describe('a software TPM', { skip: missingTools() }, () => {
  let folder = ''
  let tcti = ''
  let swtpm: ChildProcess | undefined

  async function tool(name: string, ...args: string[]): Promise<void> {
    const options = { cwd: folder, env: { ...process.env, TPM2TOOLS_TCTI: tcti } }
    await run(name, args, options)
    await run('tpm2_flushcontext', ['-t'], options)
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gym-node-swtpm-'))
    await mkdir(join(folder, 'state'))
    const socket = join(folder, 'sock')
    const appeared = new Promise<void>((resolve) => {
      const watcher = watch(folder, () => {
        if (!existsSync(socket) || !existsSync(`${socket}.ctrl`)) return
        watcher.close()
        resolve()
      })
    })
    const state = [
      '--tpm2',
      '--tpmstate',
      `dir=${join(folder, 'state')}`,
      '--flags',
      'not-need-init,startup-clear',
    ]
    const ports = ['--server', `type=unixio,path=${socket}`, '--ctrl', `type=unixio,path=${socket}.ctrl`]
    swtpm = spawn('swtpm', ['socket', ...state, ...ports], { stdio: 'ignore' })
    await appeared
    tcti = `swtpm:path=${socket}`
    await tool('tpm2_createek', '-c', 'ek.ctx', '-G', 'ecc', '-u', 'ek.pub')
    await tool(
      'tpm2_createak',
      '-C',
      'ek.ctx',
      '-c',
      'ak.ctx',
      '-G',
      'ecc',
      '-g',
      'sha256',
      '-s',
      'ecdsa',
      '-n',
      'ak.name',
      '-u',
      'ak.pub',
    )
    await tool('tpm2_evictcontrol', '-C', 'o', '-c', 'ak.ctx', '0x81010002')
  })

  after(async () => {
    if (swtpm !== undefined && swtpm.exitCode === null) {
      const ended = once(swtpm, 'exit')
      swtpm.kill('SIGKILL')
      await ended
    }
    await rm(folder, { recursive: true, force: true })
  })

  const digest = Uint8Array.from({ length: 32 }, (_, at) => at * 7)
  const untrusting: AttestationPolicy = {
    required: true,
    trustedKeyNames: [],
    roots: [],
    pcrs: [],
    now: new Date(),
  }

  it('quotes a digest so that it verifies under the key that was enrolled', async () => {
    const attester = await createAttester(config({ type: 'tpm2', tpm2_tcti: tcti, tpm2_pcrs: [7, 0, 10] }))
    const attestation = await attester.attest(digest)
    const keyName = (await readFile(join(folder, 'ak.name'))).toString('hex')
    const verdict = verifyAttestation(attestation, digest, { ...untrusting, trustedKeyNames: [keyName] })
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok),
      [],
    )
    const stranger = verifyAttestation(attestation, digest, untrusting)
    assert.deepEqual(
      stranger.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['trust'],
    )
  })

  it('quotes what its registers hold: an extended one no longer passes the old demand', async () => {
    const attester = await createAttester(config({ type: 'tpm2', tpm2_tcti: tcti, tpm2_pcrs: [11] }))
    const before = await attester.attest(digest)
    assert.equal(before.type, 'tpm2')
    const pcrs = before.type === 'tpm2' ? before.pcrs : []
    await tool('tpm2_pcrextend', `11:sha256=${'5a'.repeat(32)}`)
    const verdict = verifyAttestation(await attester.attest(digest), digest, { ...untrusting, pcrs })
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['pcr_values', 'trust'],
    )
  })

  it('carries the certificates that an authority issued for its key', async () => {
    await tool('tpm2_readpublic', '-c', '0x81010002', '-f', 'pem', '-o', 'ak.pem')
    const openssl = (...args: string[]): Promise<unknown> => run('openssl', args, { cwd: folder })
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    await openssl(
      'req',
      '-x509',
      ...key,
      '-keyout',
      'root.key',
      '-out',
      'root.crt',
      '-subj',
      '/CN=root',
      '-days',
      '2',
    )
    await openssl('req', '-new', ...key, '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/CN=key')
    const issuer = ['-CA', 'root.crt', '-CAkey', 'root.key', '-CAcreateserial']
    await openssl(
      'x509',
      '-req',
      '-in',
      'leaf.csr',
      '-force_pubkey',
      'ak.pem',
      ...issuer,
      '-out',
      'ak.crt',
      '-days',
      '2',
    )
    const certificates = [join(folder, 'ak.crt')]
    const attester = await createAttester(
      config({ type: 'tpm2', tpm2_tcti: tcti, tpm2_certificates: certificates }),
    )
    const roots = [await readFile(join(folder, 'root.crt'), 'utf8')]
    const verdict = verifyAttestation(await attester.attest(digest), digest, {
      ...untrusting,
      roots,
      now: new Date(),
    })
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok),
      [],
    )
  })

  it('without the key says so', async () => {
    const made = createAttester(config({ type: 'tpm2', tpm2_tcti: tcti, tpm2_key_handle: '0x81010099' }))
    await assert.rejects(made, refusedWith('ATTESTATION_UNAVAILABLE', /tpm2_readpublic ended with/))
  })

  it('with a certificate file that is none says which', async () => {
    const path = join(folder, 'not-a.crt')
    await writeFile(path, 'hello')
    const made = createAttester(config({ type: 'tpm2', tpm2_tcti: tcti, tpm2_certificates: [path] }))
    await assert.rejects(made, refusedWith('ATTESTATION_UNAVAILABLE', /not-a\.crt: no PEM certificate/))
  })
})
