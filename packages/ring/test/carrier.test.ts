import { describe, it } from 'node:test'
import assert from 'node:assert/strict'
import { CarrierInbox } from '../src/net/carrier.ts'

describe('bytes that nobody takes yet', () => {
  it('move a few times at most while a peer sends them one by one', () => {
    const inbox = new CarrierInbox()
    const memories = new Set<ArrayBufferLike>()
    inbox.receive({
      hintBytes: 0,
      take: (bytes) => {
        memories.add(bytes.buffer)
        return 0
      },
    })
    const count = 20_000
    for (let i = 0; i < count; i++) inbox.deliver(Uint8Array.of(i & 255))
    // The first is offered where it came; after that the memory doubles: 2, 4, ... 32,768 bytes.
    assert.ok(memories.size <= 17, `${memories.size} memories for ${count} bytes`)
    const all: number[] = []
    inbox.receive((bytes) => all.push(...bytes))
    assert.equal(all.length, count)
    assert.ok(all.every((byte, i) => byte === (i & 255)))
  })
})
