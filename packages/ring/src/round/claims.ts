/**
 * `integrity: signed`: what each member claims to hold at the end of an exchange, how that travels, and what follows
 * when two claims differ. Pure: who may be guilty is decided here and nowhere else; docs/PROTOCOL.md argues why.
 */
import {
  decodeKeyBinding,
  ed25519FromPeerId,
  ED25519_SIGNATURE_BYTES,
  encodeKeyBinding,
  KEY_BINDING_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
  verifyEd25519,
  verifyKeyBinding,
  verifyMlDsa87,
  type Identity,
} from '@gym-node/wire'
import { segmentOwner } from '../plan.ts'
import type { View } from '../types.ts'

const HASH_BYTES = 32
const TAG_BYTES = 16

/** Bytes of a challenge, which are random. */
export const CHALLENGE_BYTES = 32

/** Under `key`, this member's segments have these fingerprints. */
export interface Claim {
  /** hash of what the round is about: facts and wire type */
  readonly about: Uint8Array
  readonly key: Uint8Array
  /** one a segment */
  readonly tags: readonly Uint8Array[]
}

/** Two claims that do not fit together. */
export interface Disagreement {
  readonly what: string
  /** pairs of neighbours by place in the view: in each pair at least one member is at fault */
  readonly pairs: readonly (readonly [number, number])[]
}

/** Which round a statement is made in; all members of a view have the same. */
export type StatementScope = Pick<View, 'ringId' | 'epoch'> & { readonly round: number }

/** What a statement says: a random challenge, or a claim. */
export type StatementKind = 'challenge' | 'claim'

/** Bytes of a sealed statement's payload in a view of `count` members. */
export function statementBytes(kind: StatementKind, count: number): number {
  if (kind === 'challenge') return CHALLENGE_BYTES + ED25519_SIGNATURE_BYTES
  const claim = 2 * HASH_BYTES + count * TAG_BYTES
  return claim + KEY_BINDING_BYTES + ML_DSA_87_SIGNATURE_BYTES + ED25519_SIGNATURE_BYTES
}

/** A challenge with its member's Ed25519 signature. */
export function encodeChallenge(
  identity: Identity,
  scope: StatementScope,
  challenge: Uint8Array,
): Uint8Array {
  return Buffer.concat([challenge, identity.signEd25519(prefixed('challenge', scope, challenge))])
}

/** A claim with its member's signatures: ML-DSA-87 over the claim, Ed25519 over all of it. */
export function encodeClaim(identity: Identity, scope: StatementScope, claim: Claim): Uint8Array {
  const body = Buffer.concat([claim.about, claim.key, ...claim.tags])
  const signature = identity.signMlDsa87(prefixed('claim', scope, body))
  const all = Buffer.concat([body, encodeKeyBinding(identity.binding), signature])
  return Buffer.concat([all, identity.signEd25519(prefixed('claim', scope, all))])
}

/**
 * Whether `peer` has signed these very bytes with Ed25519. Every member asks before it passes a statement on, so what
 * fails here was spoilt by the neighbour that it came from.
 */
export function isStatementOf(
  peer: string,
  kind: StatementKind,
  scope: StatementScope,
  payload: Uint8Array,
): boolean {
  const end = payload.byteLength - ED25519_SIGNATURE_BYTES
  const message = prefixed(kind, scope, payload.subarray(0, end))
  return verifyEd25519(ed25519FromPeerId(peer), message, payload.subarray(end))
}

/** Reads a claim whose Ed25519 signature holds; null when its ML-DSA-87 signature or key is not that of `peer`. */
export function openClaim(
  peer: string,
  scope: StatementScope,
  count: number,
  payload: Uint8Array,
): Claim | null {
  const bodyBytes = 2 * HASH_BYTES + count * TAG_BYTES
  const body = payload.subarray(0, bodyBytes)
  const signatureAt = bodyBytes + KEY_BINDING_BYTES
  const signer = signerOf(payload.subarray(bodyBytes, signatureAt))
  const signature = payload.subarray(signatureAt, signatureAt + ML_DSA_87_SIGNATURE_BYTES)
  if (signer?.peerId !== peer) return null
  if (!verifyMlDsa87(signer.mlDsa87PublicKey, prefixed('claim', scope, body), signature)) return null
  return {
    about: body.subarray(0, HASH_BYTES),
    key: body.subarray(HASH_BYTES, 2 * HASH_BYTES),
    tags: Array.from({ length: count }, (_, i) => {
      const start = 2 * HASH_BYTES + i * TAG_BYTES
      return body.subarray(start, start + TAG_BYTES)
    }),
  }
}

/**
 * The first thing that the claims of all members, in ring order, do not agree on; null when they agree on everything.
 * Whatever travels goes from neighbour to neighbour, so two claims that differ mean two neighbours that do.
 */
export function findDisagreement(claims: readonly Claim[]): Disagreement | null {
  const count = claims.length
  if (claims.some((claim) => !isSame(claim.about, claims[0].about)))
    return { what: 'what members were told about the round before it began', pairs: [] }
  const keys = pairsOf(count, (a, b) => !isSame(claims[a].key, claims[b].key))
  if (keys.length > 0) return { what: 'the challenges', pairs: keys }
  for (let segment = 0; segment < count; segment++) {
    // A segment's way around the ring begins at its owner and ends at the member before it.
    const owner = segmentOwner(segment, count)
    const differ = (a: number, b: number): boolean =>
      b !== owner && !isSame(claims[a].tags[segment], claims[b].tags[segment])
    const pairs = pairsOf(count, differ)
    if (pairs.length > 0) return { what: `segment ${segment}, which member ${owner} finished`, pairs }
  }
  return null
}

function pairsOf(count: number, differ: (a: number, b: number) => boolean): [number, number][] {
  const pairs: [number, number][] = []
  for (let a = 0; a < count; a++) if (differ(a, (a + 1) % count)) pairs.push([a, (a + 1) % count])
  return pairs
}

function prefixed(kind: StatementKind, scope: StatementScope, body: Uint8Array): Uint8Array {
  const about = `gym-${kind}-v1\0${scope.ringId}\0${scope.epoch}\0${scope.round}\0`
  return Buffer.concat([new TextEncoder().encode(about), body])
}

function signerOf(binding: Uint8Array): ReturnType<typeof verifyKeyBinding> | null {
  try {
    return verifyKeyBinding(decodeKeyBinding(binding))
  } catch {
    // Not a binding, or one that does not hold: then nobody signed, which the caller says.
    return null
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
