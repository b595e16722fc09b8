/**
 * The key of a private network, in the text form that all libp2p implementations and IPFS share (libp2p spec
 * `pnet/Private-Networks-PSK-V1.md`). Pure apart from drawing a new key.
 */
import { randomBytes } from 'node:crypto'
import { RingError } from '../errors.ts'

const HEADER = '/key/swarm/psk/1.0.0/'
const KEY_BYTES = 32

/** Checks the text of a swarm key and returns it in its one canonical form. Throws RingError BAD_SWARM_KEY. */
export function checkSwarmKey(text: string): string {
  const [header, encoding, key, ...rest] = text.trim().split(/\r?\n/)
  const bytes = decodeKey(encoding, key ?? '')
  if (header !== HEADER || bytes?.byteLength !== KEY_BYTES || rest.length > 0) {
    // What is in it may be a key in another form: its size and first line's kind are all that is said.
    const seen = `${text.length} characters, ${header === HEADER ? 'the first line right' : 'the first line another'}`
    throw new RingError(
      'BAD_SWARM_KEY',
      `not a swarm key: ${seen}; expected the three lines ${HEADER}, /base16/, and 64 hex digits`,
    )
  }
  return formatKey(bytes)
}

/** A new swarm key: 256 random bits. Whoever has it can join the network. */
export function createSwarmKey(): string {
  return formatKey(randomBytes(KEY_BYTES))
}

function decodeKey(encoding: string | undefined, key: string): Buffer | null {
  if (encoding === '/base16/' && /^[0-9a-fA-F]{64}$/.test(key)) return Buffer.from(key, 'hex')
  if (encoding === '/base64/' && /^[A-Za-z0-9+/]{43}=$/.test(key)) return Buffer.from(key, 'base64')
  return null
}

function formatKey(bytes: Buffer): string {
  return `${HEADER}\n/base16/\n${bytes.toString('hex')}\n`
}
