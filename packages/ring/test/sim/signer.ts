/**
 * Signatures of simulated nodes. `mac`: 64 bytes of SHA-512 over a secret of the node and the message, which whoever
 * checks computes again: a simulated node is handed nobody else's, so it can forge nothing, and thousands of seeds stay
 * affordable. `ed25519`: the real thing, for a few.
 */
import { hash } from 'node:crypto'
import { createIdentity, verifyEd25519, type Identity } from '@gym-node/wire'
import type { VoteSigner } from '../../src/view/vote.ts'

export type Signing = 'mac' | 'ed25519'

/** The signer of one simulated node, or of a machine in a test. */
export function simSigner(self: string, signing: Signing = 'mac'): VoteSigner {
  if (signing === 'mac') {
    return {
      sign: (message) => mac(self, message),
      verify: (peer, message, signature) => mac(peer, message).equals(signature),
    }
  }
  return {
    sign: (message) => identityOf(self).signEd25519(message),
    verify: (peer, message, signature) =>
      verifyEd25519(identityOf(peer).ed25519PublicKey, message, signature),
  }
}

function mac(peer: string, message: Uint8Array): Buffer {
  return hash('sha512', Buffer.concat([Buffer.from(`secret of ${peer}\0`), message]), 'buffer')
}

const identities = new Map<string, Identity>()

function identityOf(peer: string): Identity {
  const known = identities.get(peer)
  if (known !== undefined) return known
  const seed = (label: string): Uint8Array => hash('sha256', `${label} ${peer}`, 'buffer')
  const identity = createIdentity({ ed25519: seed('ed25519'), mlDsa87: seed('ml-dsa-87') })
  identities.set(peer, identity)
  return identity
}
