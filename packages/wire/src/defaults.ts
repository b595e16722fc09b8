/** Every default and limit of this package, with its unit and its reason. */

/** Levels: metadata nests 4 deep at most; 64 leaves room and keeps recursion far from the stack's end. */
export const MAX_JSON_DEPTH = 64

/** Frames: 2^48, so that a frame counter stays an exact double and one direction never nears GCM's 96-bit nonce space. */
export const MAX_FRAMES_PER_DIRECTION = 2 ** 48

/**
 * Frames under one AES key. After each 65536 both ends step the key forward by HKDF: at 16 MiB a frame that is 2^36
 * AES blocks, where the distinguishing advantage against GCM is about 2^(72-129); past keys cannot be recomputed.
 */
export const REKEY_FRAMES = 65536

/** Bytes: largest payload a frame may carry, whatever the opener's own limit says; keeps the bound above true. */
export const MAX_FRAME_PAYLOAD_BYTES = 16 * 1024 * 1024

/** Bytes: longest protocol or ring id in a seal context; identifiers, not documents. */
export const MAX_CONTEXT_FIELD_BYTES = 1024
