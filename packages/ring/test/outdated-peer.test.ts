/** A gym node of an older version of the protocol: it is told apart from other programs, and its operator can be told. */
import { it } from 'node:test'
import assert from 'node:assert/strict'
import { multiaddr } from '@multiformats/multiaddr'
import { UNSIGNED_CONTROL_PROTOCOL } from '../src/defaults.ts'
import type { RingError } from '../src/index.ts'
import { startBareNode } from './net-rig.ts'
import { identityOf, startNode } from './rig.ts'

it('a peer that does not sign its votes is named with what to do, once', async (t) => {
  const { ring } = await startNode(0, { minMembers: 2 })
  t.after(() => ring.stop())
  const older = await startBareNode(identityOf(1))
  t.after(() => older.stop())
  await older.handle(UNSIGNED_CONTROL_PROTOCOL, () => undefined)
  const reported = new Promise<RingError>((resolve) => ring.on('error', resolve))
  await older.dial(ring.addresses.map((address) => multiaddr(address)))
  const error = await reported
  assert.equal(error.code, 'PEER_DENIED')
  assert.equal(error.peer, identityOf(1).peerId)
  assert.match(error.message, /control\/1\.0\.0, expected .*control\/2\.0\.0: .* update it/)
  assert.equal(ring.status.counters.rejected.PEER_DENIED, 1)
})
