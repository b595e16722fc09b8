/** Who may ask what: pure rules on the Host header, the caller's address and the token. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'

/**
 * Whether a Host header names this daemon. A page of a stranger's domain that resolves to 127.0.0.1 (DNS
 * rebinding) arrives with that domain here; IP literals cannot be rebound. `names` are further names to trust.
 */
export function isTrustedHost(header: string | undefined, names: readonly string[]): boolean {
  if (header === undefined) return false
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^[\]:/@]+))(?::\d{1,5})?$/i.exec(header)
  const host = (match?.[1] ?? match?.[2] ?? '').toLowerCase()
  if (host === '') return false
  return host === 'localhost' || isIP(host) !== 0 || names.some((name) => name.toLowerCase() === host)
}

/** Whether an address as `socket.remoteAddress` gives it is this machine itself. */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false
  const plain = address.startsWith('::ffff:') ? address.slice(7) : address
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'))
}

/** Whether an Authorization header carries `token`, compared in constant time. False when there is no token. */
export function hasToken(header: string | undefined, token: string | null): boolean {
  const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(header ?? '')?.[1]
  if (given === undefined || token === null || token === '') return false
  return timingSafeEqual(digest(given), digest(token))
}

/** Whether a browser says that another site made it ask; absent headers mean no browser. */
export function isCrossSite(headers: { readonly 'sec-fetch-site'?: string | string[] | undefined }): boolean {
  const site = headers['sec-fetch-site']
  return site === 'cross-site' || site === 'same-site'
}

function digest(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}
