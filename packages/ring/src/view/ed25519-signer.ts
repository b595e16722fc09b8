/** Votes signed with a node's libp2p identity: the public key is in the peer id, so nobody has to be told any. */
import { ed25519FromPeerId, verifyEd25519, WireError, type Identity } from '@gym-node/wire'
import type { VoteSigner } from './vote.ts'

/** The signer of this node. */
export function ed25519Signer(identity: Identity): VoteSigner {
  return {
    sign: (message) => identity.signEd25519(message),
    verify: (peer, message, signature) => {
      const key = publicKeyOf(peer)
      return key !== null && verifyEd25519(key, message, signature)
    },
  }
}

/** Null for a peer id that is not that of an Ed25519 key: such a peer cannot vote. */
function publicKeyOf(peer: string): Uint8Array | null {
  try {
    return ed25519FromPeerId(peer)
  } catch (thrown) {
    if (thrown instanceof WireError) return null
    throw thrown
  }
}
