/** What a fuzz target is, and the one way in which a decoder may say no. */
import assert from 'node:assert/strict'
import { WireError } from '@gym-node/wire'
import { RingError } from '../../src/errors.ts'
import type { Random } from '../sim/random.ts'

/** One decoder under test; `cost` is roughly how many cheap cases one case is worth. */
export interface Target {
  readonly name: string
  readonly cost: number
  run(random: Random): void | Promise<void>
}

/** Bytes of a JSON value. */
export const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value) ?? '')

/** Runs a decoder; it may only refuse with a RingError or WireError, with one of `codes` where they are given. */
export function refusing(run: () => void, ...codes: readonly string[]): void {
  try {
    run()
  } catch (thrown) {
    if (!(thrown instanceof RingError) && !(thrown instanceof WireError)) throw thrown
    if (codes.length > 0)
      assert.ok(codes.includes(thrown.code), `refused with ${thrown.code}: ${thrown.message}`)
  }
}
