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
    throw new RingError('BAD_ADDRESS', `cannot listen on ${where}: ${reasonIn(text)}; ${WHAT_TO_DO}`, {
      cause,
    })
  }
}

const WHAT_TO_DO =
  'give TCP addresses that this machine has, as /ip4/192.168.1.2/tcp/4100, or /ip4/0.0.0.0/tcp/4100 for all of them'

/**
 * What is wrong, in the system's own words or with which address. libp2p's report holds a stack for each address, and
 * advice about an option that whoever runs this node cannot set.
 */
function reasonIn(text: string): string {
  const system = [...text.matchAll(/listen (E[A-Z]+: [^\n]*)/g)].map(([, reason]) => reason ?? '')
  if (system.length > 0) return [...new Set(system)].join('; ')
  const failures = [...text.matchAll(/^ {2}(\/\S+): (?:\w*Error: )?(.+)$/gm)].map(([, address, reason]) => {
    const isForeign = reason?.includes('No transport') === true
    return `${address ?? ''}: ${isForeign ? 'not an address of TCP, which is all that is listened on' : (reason ?? '')}`
  })
  return failures.length === 0 ? text : failures.join('; ')
}
