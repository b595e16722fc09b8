/** What two peers behind NAT tell each other, through a relay, before both dial at the same moment. Pure. */
import { z } from 'zod'
import { isPrivateHost } from './addresses.ts'
import { decodeMessage, encodeMessage } from './json-message.ts'
import type { Outside } from './mapping.ts'

/** Bytes of any message at most. */
export const MAX_PUNCH_MESSAGE_BYTES = 2048

/** Addresses of each kind at most: IPv4 and IPv6, and one more of each. */
export const MAX_PUNCH_ADDRESSES = 4

/** Where a peer says it can be dialled. */
export interface PunchAddresses {
  /** listened on, for anybody at any time */
  readonly open: readonly Outside[]
  /** of the port that it will dial from: reached only by a dial that meets its own */
  readonly outside: readonly Outside[]
}

// Public addresses only: a peer must not have this node knock at doors inside its own network.
const addresses = z
  .array(
    z.strictObject({
      host: z.union([z.ipv4(), z.ipv6()]).refine((host) => !isPrivateHost(host), 'a private address'),
      port: z.number().int().min(1).max(65_535),
    }),
  )
  .max(MAX_PUNCH_ADDRESSES)

const addressesSchema = z.strictObject({
  t: z.literal('addresses'),
  open: addresses,
  outside: addresses,
})
const WHAT = 'message of hole punching'
const goSchema = z.strictObject({ t: z.literal('go') })

/** Says where this node can be dialled. */
export function encodePunchAddresses({ open, outside }: PunchAddresses): Uint8Array {
  return encodeMessage({
    t: 'addresses',
    open: open.slice(0, MAX_PUNCH_ADDRESSES),
    outside: outside.slice(0, MAX_PUNCH_ADDRESSES),
  })
}

/** Where the peer can be dialled. Throws RingError BAD_MESSAGE. */
export function parsePunchAddresses(bytes: Uint8Array): PunchAddresses {
  return decodeMessage(bytes, addressesSchema, WHAT)
}

/** Says: dial now. */
export function encodePunchGo(): Uint8Array {
  return encodeMessage({ t: 'go' })
}

/** Checks that the peer says so. Throws RingError BAD_MESSAGE. */
export function parsePunchGo(bytes: Uint8Array): void {
  decodeMessage(bytes, goSchema, WHAT)
}
