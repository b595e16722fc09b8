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
export type { SealContext } from './seal-context.ts'
export { SealInitiator, SealResponder } from './seal-handshake.ts'
export type { SealOptions } from './seal-handshake.ts'
export type { DirectionKey, SealedKeys } from './seal-keys.ts'
export { SEAL_CONFIRM_BYTES, SEAL_HELLO_BYTES, SEAL_REPLY_BYTES } from './seal-messages.ts'
export { FRAME_HEADER_BYTES, FRAME_TAG_BYTES, decodeFrameHeader, encodeFrameHeader } from './frame-header.ts'
export type { FrameHeader } from './frame-header.ts'
export { aeadEngine } from './aead-engine.ts'
export type { AeadEngine, Open, Seal } from './aead.ts'
export { giveBack } from './memory.ts'
export { FrameOpener, FrameSealer, frameBytes } from './frames.ts'
export {
  BITDELTA_MIN_SCALE_ELEMENTS,
  DEFAULT_DELTA_LIMITS,
  I8_BLOCK_ELEMENTS,
  MAX_FRAME_PAYLOAD_BYTES,
} from './defaults.ts'
export type { DeltaLimits } from './defaults.ts'
export type { ByteSource } from './byte-reader.ts'
export { DELTA_COMPRESSIONS, DELTA_DTYPES, DELTA_HEADER_BYTES, DELTA_VERSION } from './delta-format.ts'
export type { DeltaCompression, DeltaDtype, DeltaHeader } from './delta-format.ts'
export type { DeltaLora, DeltaMetadata } from './delta-metadata.ts'
export { encodeDelta, encodeDeltaToBuffer } from './delta-encode.ts'
export type { DeltaInput, DeltaTensorSource } from './delta-encode.ts'
export { decodeDelta, decodeDeltaBuffer } from './delta-decode.ts'
export type { DecodedDelta, DeltaHashing, DeltaTail, DeltaTensor } from './delta-decode.ts'
export { ErrorFeedback, roundTripTensor } from './error-feedback.ts'
export type { FeedbackRound, FeedbackTensor } from './error-feedback.ts'
export { squaredRoundingDistance } from './rounding-distance.ts'
export type { DeltaScheme, DeltaSignature } from './delta-signatures.ts'
export { verifyDelta } from './delta-verify.ts'
export type { DeltaCheck, DeltaCheckName, DeltaVerdict } from './delta-verify.ts'
export { verifyAttestation } from './attestation/verify.ts'
export { parseTpmPublic } from './attestation/tpm-public.ts'
export type { TpmPublic } from './attestation/tpm-public.ts'
export type {
  Attestation,
  AttestationCheck,
  AttestationPolicy,
  AttestationVerdict,
  NoAttestation,
  PcrValue,
  Tpm2Attestation,
  Tpm2Facts,
} from './attestation/types.ts'
