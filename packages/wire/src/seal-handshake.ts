/**
 * Sealed channel: an authenticated ML-KEM-768 key exchange in three messages, as two state machines over bytes.
 *
 *   I -> R  hello    version, nonce_i, ek (ephemeral ML-KEM-768 key), binding_i
 *   R -> I  reply    version, nonce_r, ct (encapsulated to ek), binding_r | sig_r, tag_r
 *   I -> R  confirm  sig_i, tag_i
 *
 *   T = SHA3-256(context || hello || reply core), context = label, protocol, ring, epoch, peer ids in role order, extra
 *   keys = HKDF-SHA-256(IKM = ML-KEM secret, salt = T); sig_x = ML-DSA-87(role label_x || T); tag_x = HMAC(key_x, T || sig_x)
 *
 * Why it holds (SIGMA-like, both ends sign one transcript that names both):
 * - Secrecy and forward secrecy: ek is fresh for every channel and its private half dropped after one decapsulation;
 *   the secret is ML-KEM-768's alone. Run inside a Noise stream the ciphertext is covered by X25519 too, so a recorder
 *   must break both.
 * - Authentication: a signature covers T, so ek, ct, both nonces, both bindings, ring, epoch and roles. The signer's
 *   ML-DSA-87 key is tied to the peer id by the Ed25519 signature in its binding, which each end checks against the
 *   peer id that its own context names. `peerMlDsa87PublicKey` pins the key, so that a forged Ed25519 signature (a
 *   future quantum computer) gains nothing.
 * - Identity misbinding and unknown key share: both peer ids are inside what both sign and inside the key derivation;
 *   an end that believes in another peer computes another T.
 * - Reflection and role confusion: roles have different labels, confirmation keys and frame keys, a peer may not talk to
 *   itself, and message lengths differ. A reflected hello fails: the binding in it is not the expected peer's.
 * - Replay: ek and nonce_i are fresh, so an old reply does not fit; ct and nonce_r are fresh, so an old confirm does
 *   not. A replayed hello gets a reply whose secret its sender does not know, and no confirm. All objects are one-shot.
 * - ML-KEM's implicit rejection yields a random secret for a bad ct; tag_r fails, before any frame is opened.
 * - Cross-protocol: every signed byte string in this project starts with its own label.
 * Not covered: denial of service (a hello costs the responder about 3 ms; the caller must know the peer first) and
 * hiding identities (the bindings are in clear; Noise hides them).
 */
import {
  createHash,
  decapsulate,
  encapsulate,
  generateKeyPairSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { concatBytes, equalBytes, utf8 } from './bytes.ts'
import { WireError } from './errors.ts'
import type { Identity } from './identity.ts'
import type { PublicIdentity } from './key-binding.ts'
import { decodeKeyBinding, encodeKeyBinding, verifyKeyBinding } from './key-binding.ts'
import { exportPublicKey, importPublicKey } from './native-keys.ts'
import type { SealContext } from './seal-context.ts'
import { encodeSealContext } from './seal-context.ts'
import type { SealedKeys, SealSchedule } from './seal-keys.ts'
import { confirmationTag, deriveSchedule } from './seal-keys.ts'
import type { SealProof } from './seal-messages.ts'
import {
  decodeConfirm,
  decodeHello,
  decodeReply,
  encodeHello,
  encodeProof,
  encodeReplyCore,
} from './seal-messages.ts'
import { verifyMlDsa87 } from './signatures.ts'

/** What either end starts from. */
export interface SealOptions {
  readonly identity: Identity
  readonly context: SealContext
}

type Role = 'initiator' | 'responder'

const SIGNATURE_LABELS: Record<Role, Uint8Array> = {
  initiator: utf8('gym-seal-v1 initiator\0'),
  responder: utf8('gym-seal-v1 responder\0'),
}

/** The end that starts. Call `hello` once, then `finish` once; after an error throw the object away. */
export class SealInitiator {
  readonly #identity: Identity
  readonly #context: SealContext
  readonly #contextBytes: Uint8Array
  #stage: 'new' | 'waiting' | 'done' = 'new'
  #hello: Uint8Array = new Uint8Array(0)
  #kemKey: KeyObject | null = null

  /** Throws `BAD_ARGUMENT` when the context is invalid or its initiator is not this identity. */
  constructor(options: SealOptions) {
    requireRole(options, 'initiator')
    this.#identity = options.identity
    this.#context = options.context
    this.#contextBytes = encodeSealContext(options.context)
  }

  /** The first message. Throws `BAD_STATE` when called again. */
  hello(): Uint8Array {
    requireStage(this.#stage, 'new', 'hello')
    this.#stage = 'waiting'
    const { privateKey } = generateKeyPairSync('ml-kem-768')
    this.#kemKey = privateKey
    this.#hello = encodeHello({
      nonce: randomBytes(32),
      kemPublicKey: exportPublicKey('ml-kem-768', privateKey),
      binding: encodeKeyBinding(this.#identity.binding),
    })
    return this.#hello
  }

  /** Checks the reply; returns the last message, the keys and who the peer proved to be. Throws `BAD_HANDSHAKE`. */
  finish(reply: Uint8Array): { confirm: Uint8Array; keys: SealedKeys; peer: PublicIdentity } {
    requireStage(this.#stage, 'waiting', 'finish')
    this.#stage = 'done'
    const kemKey = this.#kemKey
    this.#kemKey = null
    if (kemKey === null) throw new WireError('BAD_STATE', 'this handshake has no KEM key left')
    const { core, coreBytes, proof } = decodeReply(reply)
    const peer = requirePeer(core.binding, this.#context.responder, this.#context)
    const transcript = transcriptHash(this.#contextBytes, this.#hello, coreBytes)
    const schedule = scheduleOf(decapsulateOrThrow(kemKey, core.kemCiphertext), transcript)
    requireProof(proof, 'responder', schedule.responderConfirmKey, transcript, peer)
    return {
      confirm: prove('initiator', schedule.initiatorConfirmKey, transcript, this.#identity),
      keys: { send: schedule.initiatorToResponder, receive: schedule.responderToInitiator },
      peer,
    }
  }
}

/** The end that answers. Call `reply` once, then `finish` once; after an error throw the object away. */
export class SealResponder {
  readonly #identity: Identity
  readonly #context: SealContext
  readonly #contextBytes: Uint8Array
  #stage: 'new' | 'waiting' | 'done' = 'new'
  #pending: { schedule: SealSchedule; transcript: Uint8Array; peer: PublicIdentity } | null = null

  /** Throws `BAD_ARGUMENT` when the context is invalid or its responder is not this identity. */
  constructor(options: SealOptions) {
    requireRole(options, 'responder')
    this.#identity = options.identity
    this.#context = options.context
    this.#contextBytes = encodeSealContext(options.context)
  }

  /** Checks the hello and answers it. Throws `BAD_HANDSHAKE`; `BAD_STATE` when called again. */
  reply(hello: Uint8Array): Uint8Array {
    requireStage(this.#stage, 'new', 'reply')
    this.#stage = 'waiting'
    const { kemPublicKey, binding } = decodeHello(hello)
    const peer = requirePeer(binding, this.#context.initiator, this.#context)
    const { sharedKey, ciphertext } = encapsulateOrThrow(kemPublicKey)
    const core = encodeReplyCore({
      nonce: randomBytes(32),
      kemCiphertext: ciphertext,
      binding: encodeKeyBinding(this.#identity.binding),
    })
    const transcript = transcriptHash(this.#contextBytes, hello, core)
    const schedule = scheduleOf(sharedKey, transcript)
    this.#pending = { schedule, transcript, peer }
    return concatBytes(core, prove('responder', schedule.responderConfirmKey, transcript, this.#identity))
  }

  /** Checks the initiator's proof; only now may frames be opened or sent. Throws `BAD_HANDSHAKE`. */
  finish(confirm: Uint8Array): { keys: SealedKeys; peer: PublicIdentity } {
    requireStage(this.#stage, 'waiting', 'finish')
    this.#stage = 'done'
    const pending = this.#pending
    this.#pending = null
    if (pending === null) throw new WireError('BAD_STATE', 'this handshake failed at its hello')
    const { schedule, transcript, peer } = pending
    requireProof(decodeConfirm(confirm), 'initiator', schedule.initiatorConfirmKey, transcript, peer)
    return { keys: { send: schedule.responderToInitiator, receive: schedule.initiatorToResponder }, peer }
  }
}

function requireRole({ identity, context }: SealOptions, role: Role): void {
  if (context[role] !== identity.peerId) {
    throw new WireError(
      'BAD_ARGUMENT',
      `context names ${context[role]} as ${role}, this identity is ${identity.peerId}`,
    )
  }
}

function requireStage(seen: string, expected: string, call: string): void {
  if (seen !== expected)
    throw new WireError('BAD_STATE', `${call}() in stage '${seen}', expected '${expected}'`)
}

/** Both parts of the transcript after the context have a fixed length, so plain concatenation is injective. */
function transcriptHash(context: Uint8Array, hello: Uint8Array, replyCore: Uint8Array): Uint8Array {
  return createHash('sha3-256').update(context).update(hello).update(replyCore).digest()
}

function requirePeer(bindingBytes: Uint8Array, expectedPeerId: string, context: SealContext): PublicIdentity {
  let peer: PublicIdentity
  try {
    peer = verifyKeyBinding(decodeKeyBinding(bindingBytes))
  } catch (cause) {
    throw new WireError('BAD_HANDSHAKE', "the peer's key binding does not verify", { cause })
  }
  if (peer.peerId !== expectedPeerId) {
    throw new WireError('BAD_HANDSHAKE', `the peer is ${peer.peerId}, expected ${expectedPeerId}`)
  }
  const pinned = context.peerMlDsa87PublicKey
  if (pinned !== undefined && !equalBytes(pinned, peer.mlDsa87PublicKey)) {
    throw new WireError('BAD_HANDSHAKE', `${peer.peerId} shows another ML-DSA-87 key than the view names`)
  }
  return peer
}

function encapsulateOrThrow(kemPublicKey: Uint8Array): { sharedKey: Buffer; ciphertext: Buffer } {
  try {
    return encapsulate(importPublicKey('ml-kem-768', kemPublicKey))
  } catch (cause) {
    throw new WireError('BAD_HANDSHAKE', 'hello holds no valid ML-KEM-768 key', { cause })
  }
}

function decapsulateOrThrow(key: KeyObject, ciphertext: Uint8Array): Buffer {
  try {
    return decapsulate(key, ciphertext)
  } catch (cause) {
    throw new WireError('BAD_HANDSHAKE', 'reply holds no valid ML-KEM-768 ciphertext', { cause })
  }
}

function scheduleOf(secret: Buffer, transcript: Uint8Array): SealSchedule {
  const schedule = deriveSchedule(secret, transcript)
  secret.fill(0)
  return schedule
}

function prove(role: Role, key: Uint8Array, transcript: Uint8Array, identity: Identity): Uint8Array {
  const signature = identity.signMlDsa87(concatBytes(SIGNATURE_LABELS[role], transcript))
  return encodeProof({ signature, tag: confirmationTag(key, transcript, signature) })
}

function requireProof(
  proof: SealProof,
  role: Role,
  key: Uint8Array,
  transcript: Uint8Array,
  peer: PublicIdentity,
): void {
  if (!timingSafeEqual(confirmationTag(key, transcript, proof.signature), proof.tag)) {
    throw new WireError(
      'BAD_HANDSHAKE',
      `the ${role} does not hold the same keys: other context or altered messages`,
    )
  }
  if (
    !verifyMlDsa87(peer.mlDsa87PublicKey, concatBytes(SIGNATURE_LABELS[role], transcript), proof.signature)
  ) {
    throw new WireError('BAD_HANDSHAKE', `the ${role} ${peer.peerId} has not signed this transcript`)
  }
}
