/** The clock of this machine beside a time server's. */
import { createSocket } from 'node:dgram'
import { CLOCK_TIMEOUT_MS, CLOCK_TOLERANCE_MS } from '../defaults.ts'
import { finding, type Finding } from './finding.ts'

/** The clock against a time server (SNTP, RFC 4330): certificates and timestamps need it within seconds. */
export async function examineClock(): Promise<Finding> {
  const offset = await clockOffset().catch(() => null)
  if (offset === null) return finding('ok', 'clock', 'no time server answered, not compared')
  const seen = `${Math.abs(offset).toFixed(0)} ms ${offset < 0 ? 'ahead of' : 'behind'} pool.ntp.org`
  if (Math.abs(offset) > CLOCK_TOLERANCE_MS)
    return finding('warning', 'clock', seen, 'let systemd-timesyncd or chrony set it')
  return finding('ok', 'clock', seen)
}

/** Milliseconds to add to this machine's clock; rejects when no server answers in time. */
async function clockOffset(): Promise<number> {
  const NTP_PORT = 123
  const PACKET_BYTES = 48
  const SECONDS_1900_TO_1970 = 2_208_988_800
  const socket = createSocket('udp4')
  try {
    const request = Buffer.alloc(PACKET_BYTES)
    request[0] = 0x23 // version 4, client
    const sentAt = Date.now()
    const reply = await new Promise<Buffer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no answer')), CLOCK_TIMEOUT_MS)
      socket.once('error', reject)
      socket.once('message', (message) => {
        clearTimeout(timer)
        resolve(message)
      })
      socket.send(request, NTP_PORT, 'pool.ntp.org', (error) => {
        if (error !== null) reject(error)
      })
    })
    const seconds = reply.readUInt32BE(40) - SECONDS_1900_TO_1970 + reply.readUInt32BE(44) / 2 ** 32
    return seconds * 1_000 - (sentAt + Date.now()) / 2
  } finally {
    socket.close()
  }
}
