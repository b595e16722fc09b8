/** The verdict on a DELTA file: whole, signed, by whom, and every forgery that its checks are for. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { encodeDelta, encodeDeltaToBuffer, sha3_256, verifyDelta } from '@gym-node/wire'
import { signDelta } from '../src/delta-signatures.ts'
import { SAMPLE, SAMPLE_METADATA, collect, hex, inChunks, sampleTensors, testIdentity } from './samples.ts'

const alice = testIdentity(1)

describe('verifyDelta', () => {
  it('finds a signed file good, and says who signed it', async () => {
    const file = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const verdict = await verifyDelta(inChunks(file, 100))
    assert.deepEqual(
      verdict.checks.map(({ name, ok }) => [name, ok]),
      [
        ['format', true],
        ['checksum', true],
        ['ed25519', true],
        ['ml_dsa_87', true],
        ['binding', true],
        ['worker_id', true],
      ],
    )
    assert.ok(verdict.ok)
    assert.equal(verdict.metadata?.worker_id, alice.peerId)
    assert.equal(verdict.attestationDigest, null)
    assert.ok(verdict.bodySha3 !== null && hex(verdict.bodySha3).startsWith(hex(file.subarray(8, 24))))
  })

  it('finds an unsigned file not good, for the reason that it is unsigned', async () => {
    const verdict = await verifyDelta([await encodeDeltaToBuffer(SAMPLE)])
    assert.ok(!verdict.ok)
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['ed25519', 'ml_dsa_87', 'binding', 'worker_id'],
    )
  })

  it('finds every altered byte: body, header, keys and signatures', async () => {
    const file = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const signatureBlock = file.length - 2 - (1 + 2 + 32 + 2 + 64) - (1 + 2 + 2592 + 2 + 4627)
    const places = [
      0,
      5,
      6,
      7,
      8,
      23,
      24,
      30,
      500,
      11000,
      signatureBlock - 1,
      signatureBlock,
      signatureBlock + 2,
      signatureBlock + 5,
      signatureBlock + 40,
      signatureBlock + 110,
      file.length - 4000,
      file.length - 1,
    ]
    for (const place of places) {
      const altered = Uint8Array.from(file)
      altered[place] = (altered[place] ?? 0) ^ 0x10
      assert.ok(!(await verifyDelta([altered])).ok, `byte ${place} of ${file.length}`)
    }
  })

  it('finds a file re-signed by another identity, which kept the worker’s name and binding', async () => {
    const genuine = await encodeDeltaToBuffer({ ...SAMPLE, signers: alice })
    const mallory = testIdentity(3)
    const blockBytes = 2 + (1 + 2 + 32 + 2 + 64) + (1 + 2 + 2592 + 2 + 4627)
    const body = genuine.subarray(0, genuine.length - blockBytes)
    const forged = Buffer.concat([body, signDelta(mallory, sha3_256(body))])
    const verdict = await verifyDelta([forged])
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['binding'],
    )
  })

  it('finds a file whose binding and signatures agree but name another worker', async () => {
    const mallory = testIdentity(3)
    const metadata = { ...SAMPLE_METADATA, worker_id: mallory.peerId }
    const signed = Buffer.from(await encodeDeltaToBuffer({ ...SAMPLE, metadata, signers: mallory }))
    assert.ok((await verifyDelta([signed])).ok)
    // The same file with alice's name in it, checksum and signatures made anew by mallory.
    const blockBytes = 2 + (1 + 2 + 32 + 2 + 64) + (1 + 2 + 2592 + 2 + 4627)
    const body = Buffer.from(
      signed
        .subarray(24, signed.length - blockBytes)
        .toString('latin1')
        .replace(mallory.peerId, alice.peerId),
      'latin1',
    )
    const header = Buffer.concat([signed.subarray(0, 8), sha3_256(body).subarray(0, 16)])
    const forged = Buffer.concat([header, body, signDelta(mallory, sha3_256(header, body))])
    const verdict = await verifyDelta([forged])
    assert.deepEqual(
      verdict.checks.filter(({ ok }) => !ok).map(({ name }) => name),
      ['worker_id'],
    )
  })

  it('answers on garbage, and rejects only when the source fails', async () => {
    const verdict = await verifyDelta([Buffer.from('not a delta at all, but long enough for a header')])
    assert.ok(!verdict.ok && verdict.metadata === null)
    assert.match(verdict.checks[0]?.detail ?? '', /not a DELTA file/)
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(3)
      throw new Error('disk on fire')
    }
    await assert.rejects(verifyDelta(failing()), { message: 'disk on fire' })
  })

  it('gives an attester and a verifier the same digest, which covers tensors and all other metadata', async () => {
    const digests: string[] = []
    const attest = (digest: Uint8Array): Promise<{ type: 'none' }> => {
      digests.push(hex(digest))
      return Promise.resolve({ type: 'tpm2', quote: 'AAAA' } as unknown as { type: 'none' })
    }
    const input = { ...SAMPLE, attest, signers: alice }
    for (const file of [await encodeDeltaToBuffer(input), Buffer.concat(await collect(encodeDelta(input)))]) {
      const verdict = await verifyDelta([file])
      assert.ok(verdict.ok && verdict.attestationDigest !== null)
      assert.equal(hex(verdict.attestationDigest), digests.at(-1))
    }
    await encodeDeltaToBuffer({ ...input, tensors: sampleTensors().slice(1) })
    await encodeDeltaToBuffer({ ...input, metadata: { ...SAMPLE_METADATA, round: 8 } })
    assert.equal(new Set(digests).size, 3)
  })
})
