/** libp2p peer ids of Ed25519 keys: the identity multihash of the protobuf-encoded public key, in base58btc. */
import { base58btc } from 'multiformats/bases/base58'
import { concatBytes, equalBytes } from './bytes.ts'
import { WireError } from './errors.ts'

/** identity multihash (0x00), 36 bytes; protobuf PublicKey { Type = Ed25519 (1); Data = 32 bytes } (libp2p peer-ids spec). */
const PREFIX = Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])
const PEER_ID_BYTES = PREFIX.length + 32

/** `12D3Koo…`, the libp2p peer id of a raw Ed25519 public key. Throws `BAD_KEY` unless it is 32 bytes. */
export function peerIdFromEd25519(publicKey: Uint8Array): string {
  if (publicKey.length !== 32) {
    throw new WireError('BAD_KEY', `Ed25519 public key is ${publicKey.length} bytes, expected 32`)
  }
  return base58btc.baseEncode(concatBytes(PREFIX, publicKey))
}

/** The raw Ed25519 public key inside a `12D3Koo…` peer id. Throws `BAD_KEY` for any other text. */
export function ed25519FromPeerId(peerId: string): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(0)
  try {
    if (peerId.length <= 64) bytes = base58btc.baseDecode(peerId)
  } catch (cause) {
    throw new WireError('BAD_KEY', 'peer id is not base58btc', { cause })
  }
  if (bytes.length !== PEER_ID_BYTES || !equalBytes(bytes.subarray(0, PREFIX.length), PREFIX)) {
    throw new WireError('BAD_KEY', 'peer id is not that of an Ed25519 key, expected 12D3Koo…')
  }
  return bytes.slice(PREFIX.length)
}
