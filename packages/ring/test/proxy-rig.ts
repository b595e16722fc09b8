/** A TCP proxy whose connections can die without a word, as those do whose NAT or firewall has forgotten them. */
import { once } from 'node:events'
import net from 'node:net'

/** Forwards to a port on loopback. */
export class Proxy {
  readonly #server: net.Server
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>()
  connections = 0

  constructor(port: number) {
    this.#server = net.createServer((near) => {
      this.connections += 1
      const far = net.connect(port, '127.0.0.1')
      const pair = [near, far] as const
      this.#pairs.add(pair)
      for (const [from, to] of [pair, [far, near] as const]) {
        from.on('error', () => to.destroy())
        from.on('close', () => to.destroy())
        from.pipe(to)
      }
    })
  }

  /** Listens; resolves with the address. */
  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    const { port } = this.#server.address() as net.AddressInfo
    return `/ip4/127.0.0.1/tcp/${port}`
  }

  /** From now on nothing passes on the connections that are open, and nobody is told; new ones work. */
  forget(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far)
      far.unpipe(near)
      for (const socket of [near, far]) socket.removeAllListeners('close').resume()
    }
  }

  stop(): void {
    this.#server.close()
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
  }
}
