/** What peers say on the control stream besides the view protocol: who they are, and whom they know. */
import { z } from 'zod'
import { MAX_BYTES_PER_MS, MAX_ROW, MAX_RTT_MS } from '../order/path-table.ts'
import { viewMessageSchema } from '../view/messages.ts'

/** Peers in one message at most. */
export const MAX_PEERS_TOLD = 1024

const address = z.string().min(1).max(512)
const peerId = z.string().min(1).max(128)
const knownPeer = z.strictObject({ peer: peerId, addresses: z.array(address).max(64) })

/** The first message on a control stream. */
export const helloSchema = z.strictObject({
  t: z.literal('hello'),
  version: z.literal(1),
  job: z.string().max(512),
  boot: z.string().min(1).max(64),
  addresses: z.array(address).max(64),
  peers: z.array(knownPeer).max(MAX_PEERS_TOLD),
})

const peersSchema = z.strictObject({ t: z.literal('peers'), peers: z.array(knownPeer).max(MAX_PEERS_TOLD) })

/** Round-trip times in ms to other peers, and bytes per ms where rounds have shown them, as measured by the sender. */
const pathsSchema = z.strictObject({
  t: z.literal('paths'),
  row: z
    .array(
      z.tuple([
        peerId,
        z.number().min(0).max(MAX_RTT_MS),
        z.number().min(0).max(MAX_BYTES_PER_MS).nullable(),
      ]),
    )
    .max(MAX_ROW),
})

/** Everything that may come after the hello. */
export const controlSchema = z.union([viewMessageSchema, peersSchema, pathsSchema])

export type Hello = z.infer<typeof helloSchema>
export type PeersMessage = z.infer<typeof peersSchema>
export type PathsMessage = z.infer<typeof pathsSchema>
export type ControlMessage = z.infer<typeof controlSchema>
export type KnownPeer = z.infer<typeof knownPeer>
