/**
 * AES-256-GCM by the OpenSSL that is part of Node, whose functions Node exports for addons ("Linking to libraries
 * included with Node.js" in its documentation), called through koffi. One context does for all messages of a key.
 */
import { createRequire } from 'node:module'
import {
  AEAD_KEY_BYTES,
  AEAD_TAG_BYTES,
  requireOpenable,
  requireSealable,
  type AeadEngine,
  type Open,
  type Seal,
} from './aead.ts'
import { requireLength } from './bytes.ts'
import { WireError } from './errors.ts'

/** A pointer that only OpenSSL looks behind. */
type Pointer = unknown

/** The functions in use, as openssl/evp.h declares them; 1 is success. */
interface Evp {
  readonly newContext: () => Pointer
  readonly freeContext: (context: Pointer) => void
  readonly aes256Gcm: () => Pointer
  readonly init: (
    context: Pointer,
    cipher: Pointer,
    engine: null,
    key: Uint8Array | null,
    nonce: Uint8Array | null,
    direction: number,
  ) => number
  readonly update: (
    context: Pointer,
    out: Uint8Array | null,
    written: Int32Array,
    from: Uint8Array,
    length: number,
  ) => number
  readonly final: (context: Pointer, out: Uint8Array, written: Int32Array) => number
  readonly control: (context: Pointer, what: number, length: number, bytes: Uint8Array) => number
}

/** The part of koffi in use: https://koffi.dev */
interface Koffi {
  load(path: null): { func(declaration: string): unknown }
}

const DIRECTION = { open: 0, seal: 1, asBefore: -1 } as const
/** EVP_CTRL_AEAD_GET_TAG and EVP_CTRL_AEAD_SET_TAG. */
const CONTROL = { getTag: 0x10, setTag: 0x11 } as const

/** McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 16. */
const KNOWN = {
  key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
  nonce: 'cafebabefacedbaddecaf888',
  associated: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
  plaintext:
    'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
  sealed:
    '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b',
} as const

/**
 * Null where koffi or its library for this platform is not installed, where this Node does not export OpenSSL, or where
 * what comes out is not AES-256-GCM.
 */
export function opensslEngine(): AeadEngine | null {
  try {
    const engine = engineOf(bind(createRequire(import.meta.url)('koffi') as Koffi))
    return isRight(engine) ? engine : null
  } catch {
    return null
  }
}

function bind(koffi: Koffi): Evp {
  const library = koffi.load(null)
  const evp = {
    newContext: library.func('void *EVP_CIPHER_CTX_new()'),
    freeContext: library.func('void EVP_CIPHER_CTX_free(void *context)'),
    aes256Gcm: library.func('const void *EVP_aes_256_gcm()'),
    init: library.func(
      'int EVP_CipherInit_ex(void *context, const void *cipher, void *engine, const uint8_t *key, const uint8_t *nonce, int direction)',
    ),
    update: library.func(
      'int EVP_CipherUpdate(void *context, uint8_t *out, int *written, const uint8_t *from, int length)',
    ),
    final: library.func('int EVP_CipherFinal_ex(void *context, uint8_t *out, int *written)'),
    control: library.func('int EVP_CIPHER_CTX_ctrl(void *context, int what, int length, uint8_t *bytes)'),
  }
  // As declared one line each; `isRight` runs every one before it is trusted.
  return evp as unknown as Evp
}

/** Frees a context, and the key in it, once nobody has the function that uses it. */
const contexts = new FinalizationRegistry<() => void>((free) => free())

function engineOf(evp: Evp): AeadEngine {
  const contextOf = (key: Uint8Array, direction: number): Pointer => {
    requireLength(key, AEAD_KEY_BYTES, 'key')
    const context = evp.newContext()
    succeed(evp.init(context, evp.aes256Gcm(), null, key, null, direction))
    return context
  }
  const written = new Int32Array(1)
  const tag = new Uint8Array(AEAD_TAG_BYTES)
  /** OpenSSL trusts lengths, so they have been checked: `to` has at least as many bytes as `from`. */
  const update = (
    context: Pointer,
    nonce: Uint8Array,
    associated: Uint8Array,
    from: Uint8Array,
    to: Uint8Array,
  ): void => {
    succeed(evp.init(context, null, null, null, nonce, DIRECTION.asBefore))
    succeed(evp.update(context, null, written, associated, associated.byteLength))
    if (from.byteLength > 0) succeed(evp.update(context, to, written, from, from.byteLength))
  }
  return {
    name: 'openssl',
    sealer: (key) => {
      const context = contextOf(key, DIRECTION.seal)
      const seal: Seal = (nonce, associated, plaintext, out) => {
        requireSealable(nonce, plaintext, out)
        update(context, nonce, associated, plaintext, out)
        succeed(evp.final(context, tag, written))
        succeed(evp.control(context, CONTROL.getTag, AEAD_TAG_BYTES, tag))
        out.set(tag, plaintext.byteLength)
      }
      contexts.register(seal, () => evp.freeContext(context))
      return seal
    },
    opener: (key) => {
      const context = contextOf(key, DIRECTION.open)
      const open: Open = (nonce, associated, sealed, out) => {
        requireOpenable(nonce, sealed, out)
        const end = out.byteLength
        tag.set(sealed.subarray(end))
        update(context, nonce, associated, sealed.subarray(0, end), out)
        succeed(evp.control(context, CONTROL.setTag, AEAD_TAG_BYTES, tag))
        return evp.final(context, tag, written) === 1
      }
      contexts.register(open, () => evp.freeContext(context))
      return open
    },
  }
}

/** Whether it seals the known message as it must, opens it, and opens nothing else. */
function isRight(engine: AeadEngine): boolean {
  const [key, nonce, associated, plaintext, sealed] = [
    KNOWN.key,
    KNOWN.nonce,
    KNOWN.associated,
    KNOWN.plaintext,
    KNOWN.sealed,
  ].map((text) => new Uint8Array(Buffer.from(text, 'hex')))
  const out = new Uint8Array(sealed.byteLength)
  engine.sealer(key)(nonce, associated, plaintext, out)
  const back = new Uint8Array(plaintext.byteLength)
  const open = engine.opener(key)
  const isBack = open(nonce, associated, sealed, back) && Buffer.compare(back, plaintext) === 0
  sealed[0] ^= 1
  return (
    isBack &&
    Buffer.compare(out, Buffer.from(KNOWN.sealed, 'hex')) === 0 &&
    !open(nonce, associated, sealed, back)
  )
}

function succeed(status: number): void {
  if (status !== 1) throw new WireError('BAD_STATE', `OpenSSL answered ${status}, expected 1`)
}
