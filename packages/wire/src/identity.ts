/** A node's identity: an Ed25519 key (the libp2p peer id) and an ML-DSA-87 key, both from 32-byte seeds, both native. */
import { randomBytes, sign } from 'node:crypto'
import { WireError } from './errors.ts'
import type { KeyBinding, PublicIdentity } from './key-binding.ts'
import { keyBindingMessage } from './key-binding.ts'
import { exportPublicKey, importSeed } from './native-keys.ts'
import { peerIdFromEd25519 } from './peer-id.ts'

/** What must be kept secret and stored: all else follows from it. */
export interface IdentitySeeds {
  /** RFC 8032 secret key, 32 bytes. */
  readonly ed25519: Uint8Array
  /** FIPS 204 seed xi, 32 bytes. */
  readonly mlDsa87: Uint8Array
}

/** A node that can sign. Private keys stay inside closures of native key objects; never log an identity. */
export interface Identity extends PublicIdentity {
  /** The Ed25519 seed, for libp2p's private key. Not enumerable: loggers and spreads leave it out. */
  readonly ed25519Seed: Uint8Array
  readonly binding: KeyBinding
  /** 64 bytes, deterministic (RFC 8032). The caller puts a label of its own before what it signs. */
  signEd25519(message: Uint8Array): Uint8Array
  /** 4627 bytes, hedged with fresh randomness (FIPS 204, section 3.4), so two signatures of one message differ. */
  signMlDsa87(message: Uint8Array): Uint8Array
}

/** Two fresh seeds from the system's random generator. */
export function generateIdentitySeeds(): IdentitySeeds {
  return { ed25519: new Uint8Array(randomBytes(32)), mlDsa87: new Uint8Array(randomBytes(32)) }
}

/** The identity of these seeds (copied). Takes about 4 ms, most of it the binding's signature. Throws `BAD_KEY`. */
export function createIdentity(seeds: IdentitySeeds): Identity {
  if (seeds.ed25519.length !== 32 || seeds.mlDsa87.length !== 32) {
    throw new WireError(
      'BAD_KEY',
      `identity seeds are ${seeds.ed25519.length} and ${seeds.mlDsa87.length} bytes, expected 32 and 32`,
    )
  }
  const ed25519Key = importSeed('ed25519', seeds.ed25519)
  const mlDsa87Key = importSeed('ml-dsa-87', seeds.mlDsa87)
  const ed25519PublicKey = exportPublicKey('ed25519', ed25519Key)
  const mlDsa87PublicKey = exportPublicKey('ml-dsa-87', mlDsa87Key)
  const signEd25519 = (message: Uint8Array): Uint8Array => sign(null, message, ed25519Key)
  const signMlDsa87 = (message: Uint8Array): Uint8Array => sign(null, message, mlDsa87Key)
  const identity = {
    peerId: peerIdFromEd25519(ed25519PublicKey),
    ed25519PublicKey,
    mlDsa87PublicKey,
    binding: {
      ed25519PublicKey,
      mlDsa87PublicKey,
      ed25519Signature: signEd25519(keyBindingMessage(mlDsa87PublicKey)),
      mlDsa87Signature: signMlDsa87(keyBindingMessage(ed25519PublicKey)),
    },
    signEd25519,
    signMlDsa87,
  }
  // Not enumerable, so that an identity that slips into a log or a spread does not take its secret along.
  const ed25519Seed = { value: Uint8Array.from(seeds.ed25519), enumerable: false }
  return Object.defineProperties(identity, { ed25519Seed }) as typeof identity & { ed25519Seed: Uint8Array }
}
