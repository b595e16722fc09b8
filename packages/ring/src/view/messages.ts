/**
 * The messages of the view protocol and their schemas: what a peer may say, and how long any of it may be.
 * docs/PROTOCOL.md explains them.
 */
import { z } from 'zod'

const MAX_MEMBERS = 1024

/** The last epoch there can be: a u32, as in frames and handshakes. */
export const MAX_EPOCH = 0xffff_ffff

/** Accepted geneses remembered by a node without a view: one that old has been decided or given up long ago. */
export const MAX_INVITED = 4

/** Processes of a node in no view that are remembered: one that restarts more often before it is let in waits. */
export const MAX_BOOTS = 16

/** Views kept with their proof for those who have missed some, this one included: more than churn in a night. */
export const MAX_PATH = 16

/** Ballots may be this far above the highest that a node knows: so nobody brings their numbers to an end. */
export const MAX_BALLOT_STEP = 100_000

const peerId = z.string().min(1).max(128)
const hex = z
  .string()
  .max(128)
  .regex(/^[0-9a-f]*$/)
const boot = z.string().min(1).max(64)
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const round = z.number().int().min(0).max(0xffff_ffff)

const memberSchema = z.strictObject({ peer: peerId, boot })
const startSchema = z.strictObject({ round, result: hex.nullable() })
const ballotSchema = z.strictObject({ n: count, peer: peerId })
const markSchema = z.strictObject({ round, hash: hex })

/** The value that Paxos decides for an epoch. */
export const viewValueSchema = z.strictObject({
  ringId: hex.min(1),
  epoch: z.number().int().min(1).max(MAX_EPOCH),
  members: z.array(memberSchema).min(1).max(MAX_MEMBERS),
  start: startSchema,
})

/** Base64 of 64 bytes. */
const signatureSchema = z.string().regex(/^[A-Za-z0-9+/]{86}==$/)

/** Base64 of at most as many signatures as a view has members. */
const MAX_SIGNATURES_TEXT = Math.ceil((MAX_MEMBERS * 64) / 3) * 4

/**
 * Signed votes of a quorum for one value in one ballot: the places of the voters among the members of the view that is
 * left (of a first view, its own), ascending, and their signatures one after another.
 */
const certificateSchema = z.strictObject({
  ballot: ballotSchema,
  voters: z
    .array(
      z
        .number()
        .int()
        .min(0)
        .max(MAX_MEMBERS - 1),
    )
    .max(MAX_MEMBERS),
  signatures: z
    .string()
    .max(MAX_SIGNATURES_TEXT)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/),
})

/** A view, or what may become one, and the votes for it. */
const provenSchema = z.strictObject({ value: viewValueSchema, certificate: certificateSchema })

const turnSchema = z.strictObject({
  epoch: count,
  round,
  length: count,
  weight: z.number().min(0).max(3.4e38),
  wire: z.string().max(64),
  state: hex,
  commitment: hex.length(64).nullable(),
  done: hex.nullable(),
  prepared: z.boolean(),
})

const statusSchema = z.strictObject({
  t: z.literal('status'),
  seq: count,
  boot,
  ringId: hex.nullable(),
  epoch: count,
  viewId: hex.nullable(),
  active: z.boolean(),
  leaving: z.boolean(),
  state: markSchema,
  committed: markSchema.nullable(),
  suspects: z.array(peerId).max(MAX_MEMBERS),
  abandoned: z.boolean(),
  turn: turnSchema.nullable(),
})

const scope = { ringId: hex.min(1), epoch: count }

/** Every message of the protocol. */
export const viewMessageSchema = z.discriminatedUnion('t', [
  statusSchema,
  z.strictObject({ t: z.literal('genesis'), value: viewValueSchema }),
  z.strictObject({ t: z.literal('genesis-ack'), ringId: hex.min(1), signature: signatureSchema }),
  z.strictObject({ t: z.literal('genesis-nack'), ringId: hex.min(1) }),
  z.strictObject({ t: z.literal('prepare'), ...scope, ballot: ballotSchema }),
  z.strictObject({
    t: z.literal('promise'),
    ...scope,
    ballot: ballotSchema,
    /** what it has accepted, with the endorsement that it was shown */
    accepted: provenSchema.nullable(),
    prepared: markSchema.nullable(),
    held: markSchema.nullable(),
    reached: round,
    start: startSchema,
  }),
  z.strictObject({ t: z.literal('nack'), ...scope, promised: ballotSchema }),
  z.strictObject({
    t: z.literal('propose'),
    ...scope,
    ballot: ballotSchema,
    value: viewValueSchema,
    /** the certificate of an earlier ballot's endorsement, when a promise has named this value */
    endorsement: certificateSchema.nullable(),
  }),
  z.strictObject({ t: z.literal('endorsed'), ...scope, ballot: ballotSchema, signature: signatureSchema }),
  /** `certificate`: the endorsement in this ballot */
  z.strictObject({ t: z.literal('accept'), ...scope, ...provenSchema.shape }),
  z.strictObject({ t: z.literal('accepted'), ...scope, ballot: ballotSchema, signature: signatureSchema }),
  /** the views that lead there from one that the receiver knows, and their proof; the last is the news */
  z.strictObject({ t: z.literal('decided'), path: z.array(provenSchema).min(1).max(MAX_PATH) }),
])

/**
 * What survives a restart: the agreed view with its proof and those before it, this node's votes for the next epoch, its
 * prepared round; while it is in no view, the rings whose genesis it has accepted.
 */
export const durableSchema = z.strictObject({
  version: z.literal(2),
  view: viewValueSchema.nullable(),
  /** views up to this one, each with its proof; the last is `view` */
  path: z.array(provenSchema).max(MAX_PATH),
  promised: ballotSchema.nullable(),
  /** the one value that this node has endorsed in its highest such ballot, by its hash */
  endorsed: z.strictObject({ ballot: ballotSchema, hash: hex.length(64) }).nullable(),
  accepted: provenSchema.nullable(),
  /** the result that it computed last in this view, whether or not all have the same */
  computed: markSchema.nullable(),
  prepared: markSchema.nullable(),
  /** foundings that this node has signed, while it is in no view */
  invited: z.array(viewValueSchema).max(MAX_INVITED),
  /** boot ids of the processes that this node has been since it was last in a view, while it is in none */
  boots: z.array(boot).max(MAX_BOOTS),
})

export type Member = z.infer<typeof memberSchema>
/** Where a view begins: rounds up to `round` are committed, the last with this result hash when it is known. */
export type Start = z.infer<typeof startSchema>
export type Ballot = z.infer<typeof ballotSchema>
/** A round number with the hash of the state (or result) after it. */
export type Mark = z.infer<typeof markSchema>
export type Certificate = z.infer<typeof certificateSchema>
/** A view with the votes that prove it. */
export type Proven = z.infer<typeof provenSchema>
export type ViewValue = z.infer<typeof viewValueSchema>
/** A member's part in the round of an epoch: what it brings, and how far it got. */
export type Turn = z.infer<typeof turnSchema>
export type StatusMessage = z.infer<typeof statusSchema>
export type ViewMessage = z.infer<typeof viewMessageSchema>
export type Durable = z.infer<typeof durableSchema>
/** The message of one kind. */
export type ViewMessageOf<T extends ViewMessage['t']> = Extract<ViewMessage, { t: T }>
export type Promised = ViewMessageOf<'promise'>
export type Proposed = ViewMessageOf<'propose'>
