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

/** What a DELTA reader accepts. All sizes are checked before memory is taken for them. */
export interface DeltaLimits {
  /** Bytes of metadata JSON. */
  readonly maxMetadataBytes: number
  readonly maxTensors: number
  /** Bytes of one tensor's UTF-8 name. */
  readonly maxNameBytes: number
  /** Bytes of one tensor decoded to float32; stored bytes may exceed it by what an incompressible frame adds. */
  readonly maxTensorBytes: number
  /** Bytes of all tensors decoded to float32. */
  readonly maxTotalBytes: number
}

/**
 * Metadata: a binding is 10 kB in base64, 1 MiB leaves room for a TPM certificate chain. Tensors: 7 layers' matrices,
 * A and B, over 200 blocks is 2800; mixture-of-experts reach tens of thousands. Name: PEFT's longest are near 100 bytes.
 * One tensor: rank 256 on a 256k vocabulary is 256 MiB. All: 16 GiB, a full fine-tune of a small model.
 */
export const DEFAULT_DELTA_LIMITS: DeltaLimits = {
  maxMetadataBytes: 1024 * 1024,
  maxTensors: 65536,
  maxNameBytes: 1024,
  maxTensorBytes: 256 * 1024 * 1024,
  maxTotalBytes: 16 * 1024 ** 3,
}

/** Elements that share one scale in dtype i8. Part of the format: 256 costs 1.6 % in scales. */
export const I8_BLOCK_ELEMENTS = 256

/** Elements that one bitdelta scale covers at least. Part of the format: 256 costs an eighth of a bit an element. */
export const BITDELTA_MIN_SCALE_ELEMENTS = 256

/** Bytes of a maximal LZ4 block's decompressed content (frame format, block maximum size 7): 4 MiB. */
export const LZ4_MAX_BLOCK_BYTES = 4 * 1024 * 1024

/** zstd level: 3 is the library's own default; float deltas gain under 1 % from 19 and cost fifty times the time. */
export const ZSTD_LEVEL = 3

/** log2 of the largest zstd window a reader allocates: 27 (128 MiB) is what the zstd tool itself accepts by default. */
export const ZSTD_MAX_WINDOW_LOG = 27

/** Bytes from which on a file is hashed on a thread: starting one takes as long as hashing some megabytes. */
export const THREADED_HASH_BYTES = 8 * 1024 * 1024

/** Bytes handed to a hash thread at once, and how many such pieces may wait for it: 8 MiB keep it busy. */
export const HASH_SLOT_BYTES = 1024 * 1024
/** See HASH_SLOT_BYTES. */
export const HASH_SLOTS = 8

/** Bytes hashed or packed before the event loop gets a turn: 4 MiB is about 10 ms, which no heartbeat misses. */
export const YIELD_BYTES = 4 * 1024 * 1024
