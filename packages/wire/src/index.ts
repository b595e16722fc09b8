/** Public surface of @gym-node/wire. */
export { WireError } from './errors.ts'
export type { WireErrorCode } from './errors.ts'
export { SHA3_256_BYTES, sha3_256, sha3_256Stream } from './hash.ts'
export { canonicalJson, parseCanonicalJson } from './canonical-json.ts'
export type { JsonValue } from './canonical-json.ts'
export { createIdentity, generateIdentitySeeds } from './identity.ts'
export type { Identity, IdentitySeeds } from './identity.ts'
export { KEY_BINDING_BYTES, decodeKeyBinding, encodeKeyBinding, verifyKeyBinding } from './key-binding.ts'
export type { KeyBinding, PublicIdentity } from './key-binding.ts'
export { ed25519FromPeerId, peerIdFromEd25519 } from './peer-id.ts'
export {
  ED25519_SIGNATURE_BYTES,
  ML_DSA_87_SIGNATURE_BYTES,
  verifyEd25519,
  verifyMlDsa87,
} from './signatures.ts'
