/** Neighbours that fall silent, or lie, while they agree on direct sockets: the link ends in time and leaves nothing open. */
import { once } from 'node:events'
import net from 'node:net'
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FrameSealer, type SealedKeys } from '@gym-node/wire'
import { DEFAULT_LIMITS, RingError } from '../src/index.ts'
import { offerDirect, takeDirect } from '../src/link/direct.ts'
import { FRAME_KIND, SealedLink } from '../src/link/sealed-link.ts'
import { DIRECT_KEEP_ALIVE_MS } from '../src/net/defaults.ts'
import { DirectListener } from '../src/net/direct-listener.ts'
import { SocketCarrier } from '../src/net/socket-carrier.ts'
import { MemoryCarrier } from './fuzz/memory-carrier.ts'

const LIMITS = { ...DEFAULT_LIMITS, linkMs: 100 }
const KEYS: SealedKeys = {
  send: { key: new Uint8Array(32).fill(1), iv: new Uint8Array(12).fill(2) },
  receive: { key: new Uint8Array(32).fill(3), iv: new Uint8Array(12).fill(4) },
}
const isLate = (error: unknown): boolean => error instanceof RingError && error.code === 'TIMEOUT'

it('a direct socket is kept alive at both ends: hours may pass between two rounds', async (t) => {
  const kept = t.mock.method(net.Socket.prototype, 'setKeepAlive')
  const listener = new DirectListener()
  await listener.start('127.0.0.1')
  try {
    const { offer, arrivals } = listener.offer(1)
    const [ticket] = offer.tickets
    assert.ok(ticket)
    const dialled = await SocketCarrier.dial('127.0.0.1', offer.port, 5000)
    dialled.send([ticket.id])
    const accepted = await arrivals[0]
    assert.deepEqual(
      kept.mock.calls.map((call) => call.arguments),
      [
        [true, DIRECT_KEEP_ALIVE_MS],
        [true, DIRECT_KEEP_ALIVE_MS],
      ],
    )
    const over = new RingError('STOPPED', 'seen enough')
    dialled.abort(over)
    accepted?.abort(over)
  } finally {
    listener.stop()
  }
})

describe('a neighbour that says nothing about direct sockets', () => {
  it('loses its link, whichever side it is on', async () => {
    const [offering, taking] = [new MemoryCarrier(), new MemoryCarrier()]
    const listener = new DirectListener()
    await listener.start('127.0.0.1')
    try {
      await Promise.all([
        assert.rejects(offerDirect(new SealedLink(offering, KEYS, 'p', LIMITS), listener, 1, LIMITS), isLate),
        assert.rejects(takeDirect(new SealedLink(taking, KEYS, 'p', LIMITS), null, LIMITS), isLate),
      ])
      assert.equal(offering.end?.code, 'TIMEOUT')
      assert.equal(taking.end?.code, 'TIMEOUT')
    } finally {
      listener.stop()
    }
  })

  it('or says that it has opened two and opens one, has that one closed', async () => {
    const carrier = new MemoryCarrier()
    const listener = new DirectListener()
    await listener.start('127.0.0.1')
    // What the listener offers is read off it: the test plays the peer, which would get it sealed.
    const offered = Promise.withResolvers<{ port: number; id: Uint8Array }>()
    const offer = listener.offer.bind(listener)
    listener.offer = (count) => {
      const made = offer(count)
      const [first] = made.offer.tickets
      assert.ok(first)
      offered.resolve({ port: made.offer.port, id: first.id })
      return made
    }
    try {
      const lanes = offerDirect(new SealedLink(carrier, KEYS, 'p', LIMITS), listener, 2, LIMITS)
      const ready = { kind: FRAME_KIND.directReady, move: 0, round: 0, chunk: 0 }
      carrier.arrive(new FrameSealer(KEYS.receive).seal(ready, new Uint8Array(0)))
      const { port, id } = await offered.promise
      const socket = net.connect(port, '127.0.0.1')
      socket.write(id)
      const closed = once(socket, 'close')
      await assert.rejects(lanes, isLate)
      await closed
    } finally {
      listener.stop()
    }
  })
})
