/** The verdict on whether others can dial a node, and what goes with it: hand-made cases. */
import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { jobKey } from '../src/discovery/job-key.ts'
import { PeerBook } from '../src/discovery/peer-book.ts'
import { classifyDialFailure } from '../src/net/net-counters.ts'
import { isPrivateHost } from '../src/reach/addresses.ts'
import { agreedMapping } from '../src/reach/mapping.ts'
import { judgeReachability, type DialBack } from '../src/reach/reachability.ts'
import { encodeReachAnswer, parseReachAnswer } from '../src/reach/messages.ts'

const listening = ['/ip4/192.168.1.2/tcp/4160', '/ip4/127.0.0.1/tcp/4160']
const yes = (observedHost: string): DialBack => ({ observedHost, reached: true })
const no = (observedHost: string): DialBack => ({ observedHost, reached: false })

describe('the verdict', () => {
  it('follows what most peers say, and tells what to do only where something is to be done', () => {
    const cases = [
      [[], 0, 'unknown', false],
      [[yes('203.0.114.9')], 0, 'public', false],
      [[yes('203.0.114.9'), yes('203.0.114.9'), no('203.0.114.9')], 0, 'public', false],
      [[yes('203.0.114.9'), no('203.0.114.9'), no('203.0.114.9')], 0, 'closed', true],
      [[yes('192.168.1.2')], 0, 'local', true],
      [[yes('192.168.1.2')], 1, 'local', false],
      [[no('203.0.114.9')], 0, 'closed', true],
      [[no('203.0.114.9')], 2, 'relayed', false],
      [[], 1, 'relayed', false],
    ] as const
    for (const [answers, reservations, state, hasAdvice] of cases) {
      const verdict = judgeReachability({ listening, answers, reservations })
      assert.equal(verdict.state, state)
      assert.equal(verdict.advice !== '', hasAdvice, state)
    }
  })

  it('names the port to open, and loopback where nothing else is listened on', () => {
    assert.match(
      judgeReachability({ listening, answers: [no('203.0.114.9')], reservations: 0 }).advice,
      /TCP port 4160/,
    )
    const loopback = ['/ip4/127.0.0.1/tcp/4160', '/ip6/::1/tcp/4160']
    const verdict = judgeReachability({ listening: loopback, answers: [yes('127.0.0.1')], reservations: 0 })
    assert.equal(verdict.state, 'loopback')
  })
})

describe('the outside of a local port', () => {
  const seen = (localPort: number, port: number, host = '203.0.113.9') => ({ localPort, host, port })

  it('is what most of those who see it say, for each family of addresses', () => {
    const cases = [
      [[], null],
      [[seen(5000, 6000)], [{ host: '203.0.113.9', port: 6000 }]],
      [[seen(5000, 6000), seen(5000, 6000), seen(5000, 1)], [{ host: '203.0.113.9', port: 6000 }]],
      [
        [seen(5000, 6000), seen(5000, 5000, '2001:db8::9')],
        [
          { host: '203.0.113.9', port: 6000 },
          { host: '2001:db8::9', port: 5000 },
        ],
      ],
    ] as const
    for (const [sightings, outside] of cases) {
      assert.deepEqual(agreedMapping(sightings)?.outside ?? null, outside)
    }
  })

  it('is not known behind a NAT that gives every destination another port, and says what to do', () => {
    assert.equal(agreedMapping([seen(5000, 6000), seen(5000, 6001)]), null)
    const facts = { listening, answers: [no('203.0.114.9')], reservations: 1 }
    assert.equal(judgeReachability(facts).advice, '')
    assert.match(judgeReachability({ ...facts, portVaries: true }).advice, /forward TCP port 4160/)
  })

  it('is that of the port that most have seen, then of the one seen last', () => {
    assert.equal(agreedMapping([seen(1, 10), seen(2, 20), seen(2, 20)])?.localPort, 2)
    assert.equal(agreedMapping([seen(2, 20), seen(2, 20), seen(1, 10)])?.localPort, 2)
    assert.equal(agreedMapping([seen(1, 10), seen(2, 20)])?.localPort, 2)
  })
})

describe('isPrivateHost', () => {
  // RFC 1918, 3927, 4193, 4291, 6598; the last ones are just outside of the ranges.
  it('knows the ranges that lead nowhere from outside', () => {
    const inside = [
      '10.1.2.3',
      '172.31.0.1',
      '192.168.0.1',
      '100.64.0.1',
      '169.254.1.1',
      '127.0.0.1',
      'fd00::1',
      'fe80::1',
      '::1',
    ]
    const outside = [
      '11.0.0.1',
      '172.32.0.1',
      '192.169.0.1',
      '100.128.0.1',
      '8.8.8.8',
      '2001:4860::1',
      'name',
    ]
    for (const host of inside) assert.ok(isPrivateHost(host), host)
    for (const host of outside) assert.ok(!isPrivateHost(host), host)
  })
})

describe('the key of a job', () => {
  // sha256("gym-node rendezvous v1\0arith") by coreutils, in a CIDv1 (01), raw (55), sha2-256 (12), 32 bytes (20).
  it('is the hash of its name under this use of the DHT', () => {
    const hex = Buffer.from(jobKey('arith').bytes).toString('hex')
    assert.equal(hex, `015512208ff093127b00a30c0ef9a7a4a952c8507a06340c391f7df52b998a689800db6f`)
    assert.notEqual(jobKey('arith').toString(), jobKey('Arith').toString())
  })
})

describe('the book of known peers', () => {
  const limits = { peers: 3, addressesPerPeer: 2, maxAgeMs: 1000 }

  it('keeps the peers met last, with few addresses each, newest first', () => {
    const book = new PeerBook('job', limits)
    for (let k = 1; k <= 5; k += 1) book.note(`peer${k}`, ['/a', '/b', '/c'], k)
    assert.deepEqual(
      book.list().map(({ peer, addresses }) => [peer, addresses.length]),
      [
        ['peer5', 2],
        ['peer4', 2],
        ['peer3', 2],
      ],
    )
    assert.ok(!book.note('peer5', ['/a', '/b'], 6))
    assert.ok(book.note('peer5', ['/d'], 7))
    assert.ok(!book.note('peer6', [], 8))
  })

  it('comes back from its bytes without what is too old, from the future or of another job', () => {
    const book = new PeerBook('job', limits)
    book.note('old', ['/a'], 100)
    book.note('new', ['/b'], 1500)
    const bytes = book.encode(1000)
    assert.deepEqual(PeerBook.decode(bytes, 'job', limits, 1200).list(), [
      { peer: 'new', addresses: ['/b'], seen: 1200 },
    ])
    assert.deepEqual(PeerBook.decode(bytes, 'other', limits, 1200).list(), [])
  })

  it('refuses what is no book', () => {
    for (const text of ['', '{}', '{"version":2,"job":"job","peers":[]}', '[1']) {
      assert.throws(() => PeerBook.decode(new TextEncoder().encode(text), 'job', limits, 0))
    }
  })
})

describe('a failed dial', () => {
  it('is counted under its reason, however deep that lies', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' })
    const cyclic = new Error('odd')
    cyclic.cause = cyclic
    assert.equal(classifyDialFailure(new AggregateError([refused], 'all failed')), 'refused')
    assert.equal(classifyDialFailure(new Error('outer', { cause: refused })), 'refused')
    assert.equal(
      classifyDialFailure(Object.assign(new Error('x'), { name: 'UnexpectedPeerError' })),
      'wrong_peer',
    )
    assert.equal(classifyDialFailure(Object.assign(new Error('x'), { name: 'TimeoutError' })), 'timeout')
    assert.equal(classifyDialFailure(cyclic), 'other')
    assert.equal(classifyDialFailure('no error at all'), 'other')
  })
})

describe('an answer to a dial back', () => {
  const answer = (value: object): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

  it('reads back as it was written', () => {
    for (const observedHost of ['192.0.2.7', '2001:db8::7']) {
      const told = { observedHost, reached: true }
      assert.deepEqual(parseReachAnswer(encodeReachAnswer(told)), told)
    }
  })

  it('names an IP address and nothing else: it is told to others as this node’s own', () => {
    for (const host of ['', 'example.org', '192.0.2.7/tcp/1', 'fe80::1%eth0', '1.2.3', '300.1.1.1']) {
      assert.throws(() => parseReachAnswer(answer({ host, reached: true })), { code: 'BAD_MESSAGE' }, host)
    }
  })
})
