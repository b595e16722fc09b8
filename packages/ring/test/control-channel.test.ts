/** What one peer may have a control stream cost, and that an ended one hears nothing more. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { CONTROL_PROTOCOL, DEFAULT_LIMITS } from '../src/defaults.ts'
import { RingError } from '../src/errors.ts'
import { ControlChannel } from '../src/net/control-channel.ts'
import { MOST_OFFENCES } from '../src/net/defaults.ts'
import { frameMessage } from '../src/net/messages.ts'
import { MemoryCarrier } from './fuzz/memory-carrier.ts'
import { joined } from './fuzz/mutate.ts'
import { startBareNode, until } from './net-rig.ts'
import { deadline, identityBelow, startNode, stopAll } from './rig.ts'

const HELLO = { t: 'hello', version: 1, job: 'j', boot: 'b', addresses: [], peers: [] }
const framed = (value: unknown): Uint8Array =>
  joined(...frameMessage(new TextEncoder().encode(JSON.stringify(value))))

/** A channel of which everything is counted. */
function channelOn(carrier: MemoryCarrier, onHello: (channel: ControlChannel) => void = () => undefined) {
  const seen = { hellos: 0, messages: 0 }
  const channel: ControlChannel = new ControlChannel(carrier, 'peer', DEFAULT_LIMITS, {
    onHello: () => {
      seen.hellos += 1
      onHello(channel)
    },
    onMessage: () => (seen.messages += 1),
    onEnd: () => undefined,
  })
  return { channel, seen }
}

describe('a control stream', () => {
  it('takes a message that comes byte by byte, and another behind it', () => {
    const carrier = new MemoryCarrier()
    const { seen } = channelOn(carrier)
    const bytes = joined(framed(HELLO), framed({ t: 'peers', peers: [] }), framed({ t: 'peers', peers: [] }))
    for (const byte of bytes) carrier.arrive(Uint8Array.of(byte))
    assert.deepEqual(seen, { hellos: 1, messages: 2 })
    assert.equal(carrier.end, null)
  })

  it('ends when the bytes of its messages are too many, however few messages they are', () => {
    const carrier = new MemoryCarrier()
    const { seen } = channelOn(carrier)
    carrier.arrive(framed(HELLO))
    const address = `/dns4/${'a'.repeat(500)}`
    const peers = Array.from({ length: 7 }, (_, i) => ({
      peer: `p${i}`,
      addresses: Array<string>(64).fill(address),
    }))
    const large = framed({ t: 'peers', peers })
    const most = Math.ceil(DEFAULT_LIMITS.controlBurstBytes / large.byteLength)
    for (let i = 0; i < 2 * most && carrier.end === null; i++) carrier.arrive(large)
    assert.equal(carrier.end?.code, 'PEER_FLOOD')
    assert.ok(most < DEFAULT_LIMITS.controlBurst / 10, 'few messages')
    // What is refilled while the test reads them is at most as much again.
    assert.ok(seen.messages <= 2 * most)
  })

  it('hears nothing of what came together with the message that ended it', () => {
    const carrier = new MemoryCarrier()
    const { seen } = channelOn(carrier, (channel) =>
      channel.abort(new RingError('PEER_DENIED', 'of another job')),
    )
    carrier.arrive(joined(framed(HELLO), framed({ t: 'peers', peers: [] })))
    assert.deepEqual(seen, { hellos: 1, messages: 0 })
  })

  it('is refused to a peer that has broken its rules again and again', async () => {
    const node = await startNode(1, { minMembers: 1 })
    const stranger = await startBareNode(identityBelow(node.ring.peerId))
    try {
      const signal = deadline([node])
      const rejected = (): number => node.ring.status.counters.rejected.BAD_MESSAGE ?? 0
      const refused = (): number => node.ring.status.network.limits.offences ?? 0
      const addresses = node.ring.addresses.map((address) => multiaddr(address))
      while (refused() === 0) {
        const before = rejected() + refused()
        const stream = await stranger.dialProtocol(addresses, CONTROL_PROTOCOL, { signal })
        // The last one is refused before anything is sent.
        if (stream.status === 'open') stream.send(framed({ t: 'nonsense' }))
        await until(() => rejected() + refused() > before, signal)
      }
      assert.equal(rejected(), MOST_OFFENCES)
    } finally {
      await stranger.stop()
      await stopAll([node])
    }
  })
})
