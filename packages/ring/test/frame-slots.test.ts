/** Slots of the kernels' memory: which one is worked in, and whom a frame belongs to. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FRAME_HEADER_BYTES, frameBytes } from '@gym-node/wire'
import { FrameSlots, slotsBytes } from '../src/kernels/frame-slots.ts'

const PAYLOAD = 1000
const START = 128

function slots(): { memory: Uint8Array; slots: FrameSlots; payload: (bytes?: number) => Uint8Array } {
  const memory = new Uint8Array(START + slotsBytes(PAYLOAD))
  const made = new FrameSlots(memory, START, PAYLOAD)
  return { memory, slots: made, payload: (bytes = PAYLOAD) => memory.subarray(made.at, made.at + bytes) }
}

describe('slots for frames', () => {
  it('lends the frame around a payload, inside its own slot', () => {
    const { memory, slots: s, payload } = slots()
    const seen: [number, number][] = []
    for (let i = 0; i < 2; i++) {
      s.begin()
      const lent = s.lend(payload())
      assert.ok(lent !== null)
      const { frame } = lent
      assert.equal(frame.buffer, memory.buffer)
      assert.equal(frame.byteLength, frameBytes(PAYLOAD))
      assert.equal(frame.byteOffset + FRAME_HEADER_BYTES, s.at)
      assert.ok(frame.byteOffset >= START && frame.byteOffset + frame.byteLength <= memory.byteLength)
      seen.push([frame.byteOffset, frame.byteOffset + frame.byteLength])
    }
    const [[begin, end], [otherBegin, otherEnd]] = seen
    assert.ok(end <= otherBegin || otherEnd <= begin, 'two frames share bytes')
  })

  it('keeps the last slot to work in, and comes back to the first that is free', () => {
    const { slots: s, payload } = slots()
    const first = s.at
    s.begin()
    const lent = s.lend(payload())
    s.begin()
    assert.notEqual(s.at, first)
    assert.ok(s.lend(payload()) !== null)
    s.begin()
    assert.equal(s.lend(payload()), null, 'the last one')
    lent?.release()
    s.begin()
    assert.equal(s.at, first)
  })

  it('lends nothing that lies elsewhere', () => {
    const { memory, slots: s, payload } = slots()
    assert.equal(s.lend(new Uint8Array(PAYLOAD)), null)
    assert.equal(s.lend(memory.subarray(s.at + 4, s.at + 8)), null)
    assert.equal(s.lend(payload(10))?.frame.byteLength, frameBytes(10))
  })
})
