/** Starts a libp2p node, and says what is wrong with its addresses when that fails. */
import type { Libp2p } from '@libp2p/interface'
import { RingError } from '../errors.ts'

/** Starts it. Throws RingError PORT_IN_USE or BAD_ADDRESS that says what to do. */
export async function startNode(node: Libp2p, listen: readonly string[]): Promise<void> {
  try {
    await node.start()
  } catch (cause) {
    await node.stop()
    const text = cause instanceof Error ? cause.message : String(cause)
    const where = listen.join(', ')
    if (text.includes('EADDRINUSE')) {
      throw new RingError(
        'PORT_IN_USE',
        `cannot listen on ${where}: the port is in use; stop the other program, or choose another port (0 for any)`,
        { cause },
      )
    }
    throw new RingError(
      'BAD_ADDRESS',
      `cannot listen on ${where}: ${reasonIn(text)}; give addresses of this machine`,
      {
        cause,
      },
    )
  }
}

/** Of libp2p's report, which holds a stack for each address, the system's own words; all of it where it has none. */
function reasonIn(text: string): string {
  const found = [...text.matchAll(/listen (E[A-Z]+: [^\n]*)/g)].map(([, reason]) => reason ?? '')
  return found.length === 0 ? text : [...new Set(found)].join('; ')
}
