/**
 * The HTTP face of the daemon. Loopback callers may read everything; callers from elsewhere read only health
 * and metrics unless they show the token; nobody changes anything without it. Refuses foreign Host names.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { hostname } from 'node:os'
import { isIPv6 } from 'node:net'
import { NodeError } from '../errors.ts'
import type { DaemonStatus } from '../status.ts'
import {
  CONTROL_DEADLINE_MS,
  HTTP_BODY_BYTES,
  HTTP_CONNECTIONS,
  HTTP_HEADERS_MS,
  HTTP_REQUEST_MS,
} from './defaults.ts'
import { hasToken, isCrossSite, isLoopback, isTrustedHost } from './guard.ts'
import type { History } from './history.ts'
import type { Metrics, ObservePart } from './metrics.ts'
import type { PageFile } from './page-files.ts'
import { health, parseHistoryQuery, parseRecentQuery, readiness } from './routes.ts'
import type { EventStream } from './stream.ts'

/** What an operator with the token may do. */
export interface Controls {
  pause(): Promise<void>
  resume(): Promise<void>
  leave(): Promise<void>
}

/** Everything that a request may reach. */
export interface HttpOptions {
  readonly listen: { readonly host: string; readonly port: number }
  readonly token: string | null
  /** Names beside `localhost`, IP addresses and this machine's name under which the daemon is reached. */
  readonly allowedHosts: readonly string[]
  readonly status: () => DaemonStatus
  readonly controls: Controls
  readonly history: History
  readonly stream: EventStream
  readonly metrics: Metrics
  readonly files: ReadonlyMap<string, PageFile>
  readonly onFault: (part: ObservePart, error: unknown) => void
}

type Handler = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<void> | void

const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
} as const

/** Paths that machines of others read: no page, no prompt, no peer id in them. */
const OPEN_PATHS = new Set(['/healthz', '/readyz', '/metrics'])

/** The server; `start` and `stop` are idempotent. */
export class HttpServer {
  readonly #options: HttpOptions
  readonly #routes: ReadonlyMap<string, Handler>
  readonly #names: readonly string[]
  #server: Server | null = null

  constructor(options: HttpOptions) {
    this.#options = options
    this.#names = [hostname(), options.listen.host, ...options.allowedHosts]
    this.#routes = this.#table()
  }

  /** Listens and returns the URL. Throws NodeError PORT_IN_USE or CONFIG_INVALID when it cannot. */
  async start(): Promise<string> {
    const { host, port } = this.#options.listen
    if (this.#server === null) {
      const server = createServer(
        { headersTimeout: HTTP_HEADERS_MS, requestTimeout: HTTP_REQUEST_MS, noDelay: true },
        (request, response) => void this.#handle(request, response),
      )
      server.maxConnections = HTTP_CONNECTIONS
      await listen(server, host, port)
      server.on('error', (error) => {
        this.#options.onFault('http', error)
      })
      this.#server = server
    }
    const address = this.#server.address()
    const boundPort = typeof address === 'object' && address !== null ? address.port : port
    return `http://${isIPv6(host) ? `[${host}]` : host}:${boundPort}/`
  }

  /** Closes all sockets, streams included. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = null
    if (server === null) return
    const closed = new Promise<void>((resolve) => {
      server.close(() => {
        resolve()
      })
    })
    server.closeAllConnections()
    await closed
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('finish', () => {
      this.#options.metrics.count('httpRequests', 1, { status: `${Math.floor(response.statusCode / 100)}xx` })
    })
    try {
      for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value)
      response.setHeader('cache-control', 'no-store')
      await this.#dispatch(request, response)
    } catch (error) {
      this.#options.onFault('http', error)
      if (response.headersSent) response.destroy()
      else sendJson(response, 500, failure('INTERNAL', 'the daemon could not answer; its log says why'))
    }
  }

  async #dispatch(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { token } = this.#options
    if (!isTrustedHost(request.headers.host, this.#names)) {
      const message = `Host ${JSON.stringify(request.headers.host?.slice(0, 100) ?? '')} is not a name of this daemon; use an IP address or add the name to allowed hosts`
      return sendJson(response, 421, failure('UNTRUSTED_HOST', message))
    }
    const url = parseUrl(request.url)
    if (url === null)
      return sendJson(response, 400, failure('BAD_REQUEST', 'the request target is not a path'))
    const isPage = this.#options.files.has(url.pathname)
    if (isCrossSite(request.headers) && !(isPage && request.method === 'GET')) {
      return sendJson(response, 403, failure('CROSS_SITE', 'another site may not ask this daemon'))
    }
    const isTrusted = hasToken(request.headers.authorization, token)
    if (!isTrusted && !isLoopback(request.socket.remoteAddress) && !OPEN_PATHS.has(url.pathname) && !isPage) {
      const message = 'callers from another machine need the token: Authorization: Bearer <token>'
      response.setHeader('www-authenticate', 'Bearer')
      return sendJson(response, 401, failure('TOKEN_REQUIRED', message))
    }
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '')
    if (isPage && method === 'GET') {
      this.#sendFile(request, response, url.pathname)
      return
    }
    const handler = this.#routes.get(`${method} ${url.pathname}`)
    if (handler === undefined) {
      const other = ['GET', 'POST'].filter((name) => this.#routes.has(`${name} ${url.pathname}`))
      if (other.length === 0)
        return sendJson(response, 404, failure('NOT_FOUND', `nothing is at ${url.pathname}`))
      response.setHeader('allow', other.join(', '))
      return sendJson(response, 405, failure('METHOD_NOT_ALLOWED', `use ${other.join(' or ')}`))
    }
    await handler(request, response, url)
  }

  #table(): Map<string, Handler> {
    const { controls, history, stream, metrics, status } = this.#options
    const table = new Map<string, Handler>()
    table.set('GET /status.json', (_request, response) => {
      sendJson(response, 200, status())
    })
    table.set('GET /healthz', (_request, response) => {
      const { code, text } = health(status())
      sendText(response, code, text)
    })
    table.set('GET /readyz', (_request, response) => {
      const { code, text } = readiness(status())
      sendText(response, code, text)
    })
    table.set('GET /metrics', async (_request, response) => {
      metrics.set('streamClients', stream.clients)
      const text = await metrics.render(status())
      response.writeHead(200, { 'content-type': metrics.registry.contentType })
      response.end(text)
    })
    table.set('GET /events', (request, response) => {
      this.#stream(request, response)
    })
    table.set('GET /api/history', async (_request, response, url) => {
      const parsed = parseHistoryQuery(url.searchParams)
      if (!parsed.ok) return sendJson(response, 400, failure('BAD_QUERY', parsed.message))
      sendJson(response, 200, { tables: await history.read(parsed.value) })
    })
    table.set('GET /api/recent', async (_request, response, url) => {
      const parsed = parseRecentQuery(url.searchParams)
      if (!parsed.ok) return sendJson(response, 400, failure('BAD_QUERY', parsed.message))
      sendJson(response, 200, { events: await history.recent(parsed.value.type, parsed.value.limit) })
    })
    table.set('GET /api/session', (request, response) => {
      sendJson(response, 200, {
        has_controls: this.#options.token !== null,
        is_operator: hasToken(request.headers.authorization, this.#options.token),
      })
    })
    const actions = {
      pause: () => controls.pause(),
      resume: () => controls.resume(),
      leave: () => controls.leave(),
    }
    for (const [name, action] of Object.entries(actions)) {
      table.set(`POST /api/${name}`, (request, response) => this.#control(request, response, name, action))
    }
    return table
  }

  async #control(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    action: () => Promise<void>,
  ): Promise<void> {
    if (this.#options.token === null) {
      return sendJson(
        response,
        403,
        failure('CONTROLS_DISABLED', 'this daemon was started without a token; it can only be read'),
      )
    }
    if (!hasToken(request.headers.authorization, this.#options.token)) {
      response.setHeader('www-authenticate', 'Bearer')
      return sendJson(
        response,
        401,
        failure('TOKEN_REQUIRED', `${name} needs the token: Authorization: Bearer <token>`),
      )
    }
    if (Number(request.headers['content-length'] ?? 0) > HTTP_BODY_BYTES) {
      return sendJson(
        response,
        413,
        failure('BODY_TOO_LARGE', `no body is expected, ${HTTP_BODY_BYTES} bytes is the limit`),
      )
    }
    request.resume()
    try {
      await within(action(), CONTROL_DEADLINE_MS, name)
      sendJson(response, 200, { ok: true, action: name, state: this.#options.status().state })
    } catch (error) {
      const code =
        error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'FAILED'
      sendJson(response, 409, failure(code, error instanceof Error ? error.message : String(error)))
    }
  }

  #stream(request: IncomingMessage, response: ServerResponse): void {
    const { stream } = this.#options
    if (!stream.hasRoom) {
      response.setHeader('retry-after', '10')
      sendJson(
        response,
        503,
        failure('TOO_MANY_STREAMS', `${stream.clients} clients listen already; close one`),
      )
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
    if (request.method === 'HEAD') response.end()
    else stream.add(response)
  }

  #sendFile(request: IncomingMessage, response: ServerResponse, path: string): void {
    const file = this.#options.files.get(path)
    if (file === undefined) return
    response.setHeader('etag', file.etag)
    response.setHeader('cache-control', 'no-cache')
    if (request.headers['if-none-match'] === file.etag) {
      response.writeHead(304).end()
      return
    }
    response.writeHead(200, { 'content-type': file.type, 'content-length': file.body.length }).end(file.body)
  }
}

function parseUrl(target: string | undefined): URL | null {
  return target?.startsWith('/') === true ? URL.parse(target, 'http://daemon.invalid') : null
}

function failure(code: string, message: string): { error: { code: string; message: string } } {
  return { error: { code, message } }
}

function sendJson(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body))
}

function sendText(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' }).end(text)
}

async function within(work: Promise<void>, ms: number, name: string): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    reject(new Error(`${name} did not finish within ${ms} ms; it goes on in the daemon`))
  }, ms)
  try {
    await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(listenError(error, host, port))
    })
    try {
      server.listen({ host, port }, () => {
        server.removeAllListeners('error')
        resolve()
      })
    } catch (error) {
      const message = `the status server cannot listen on ${host}:${port}: ports go from 0 to 65535`
      reject(new NodeError('CONFIG_INVALID', message, { cause: error }))
    }
  })
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): NodeError {
  const where = `${host}:${port}`
  switch (error.code ?? '') {
    case 'EADDRINUSE':
      return new NodeError(
        'PORT_IN_USE',
        `the status server cannot listen on ${where}: another process does, perhaps another gym-node`,
        {
          cause: error,
        },
      )
    case 'EACCES':
      return new NodeError(
        'CONFIG_INVALID',
        `this user may not listen on ${where}: choose a port above 1023`,
        { cause: error },
      )
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EADDRNOTAVAIL':
      return new NodeError(
        'CONFIG_INVALID',
        `this machine has no address ${host}: use 127.0.0.1, or 0.0.0.0 for all addresses`,
        {
          cause: error,
        },
      )
    default:
      return new NodeError(
        'CONFIG_INVALID',
        `the status server cannot listen on ${where}: ${error.message}`,
        { cause: error },
      )
  }
}
