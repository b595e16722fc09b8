/** A small HTTP server on a free port of this machine that answers JSON requests; shared by tests. */
import { createServer } from 'node:http'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'

/** A request as received. */
export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: Record<string, unknown>
}

/** A running server; `handle` answers, `requests` is what came so far. */
export interface LocalServer {
  readonly url: string
  readonly requests: Received[]
  handle: (received: Received, response: ServerResponse) => void
  close(): void
}

/** Starts a server. */
export async function startServer(handle: LocalServer['handle']): Promise<LocalServer> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(parts).toString('utf8')) as Record<string, unknown>
      const received = { path: request.url ?? '', headers: request.headers, body }
      running.requests.push(received)
      running.handle(received, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the server has no port')
  const running: LocalServer = {
    url: `http://127.0.0.1:${address.port}`,
    requests: [],
    handle,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
  return running
}
