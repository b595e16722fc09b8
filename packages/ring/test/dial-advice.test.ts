/** What an operator is told about a peer that cannot be dialled, and what is kept from the log. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BOOTSTRAP_PATIENCE } from '../src/net/defaults.ts'
import { dialAdvice } from '../src/net/dial-targets.ts'
import { DIAL_FAILURES } from '../src/net/net-counters.ts'

const never = { source: 'bootstrap', wasMet: false, attempts: BOOTSTRAP_PATIENCE } as const

describe('dial advice', () => {
  it('says something about every way in which a bootstrap address never answers', () => {
    for (const why of DIAL_FAILURES) assert.ok(dialAdvice(why, never, false), why)
    assert.match(dialAdvice('name', never, false) ?? '', /DNS/)
    assert.match(dialAdvice('refused', never, false) ?? '', /port/)
    assert.match(dialAdvice('timeout', never, false) ?? '', /firewall/)
  })

  it('waits a few dials, since the other node may start a moment later', () => {
    assert.equal(dialAdvice('refused', { ...never, attempts: BOOTSTRAP_PATIENCE - 1 }, false), null)
  })

  it('is silent about peers that were met once or that others spoke of: they come and go', () => {
    assert.equal(dialAdvice('refused', { ...never, wasMet: true }, false), null)
    for (const source of ['peer', 'dht', 'mdns', 'book'] as const)
      assert.equal(dialAdvice('timeout', { ...never, source }, false), null)
  })

  it('speaks at the first dial of a wrong peer and of a wrong swarm key, whoever named the peer', () => {
    const first = { source: 'peer', wasMet: false, attempts: 1 } as const
    assert.match(dialAdvice('wrong_peer', first, false) ?? '', /\/p2p\//)
    assert.match(dialAdvice('handshake', first, true) ?? '', /same swarm key/)
  })
})
