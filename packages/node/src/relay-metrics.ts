/** What a relay tells Prometheus, and the small server that tells it: one path, on loopback unless told otherwise. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import type { RelayStatus } from '@gym-node/ring'
import { NodeError } from './errors.ts'

/** Where the metrics are served. */
export interface MetricsListen {
  readonly host: string
  readonly port: number
}

/** The registry of a relay; every scrape asks `status` anew. Names are listed in docs/OPERATIONS.md. */
export function relayRegistry(status: () => RelayStatus): Registry {
  const registers = [new Registry()]
  const [registry] = registers
  const gauge = (name: string, help: string, value: (status: RelayStatus) => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value(status()))
      },
    })
  }
  const counter = (name: string, help: string, value: (status: RelayStatus) => number): void => {
    let last = 0
    new Counter({
      name,
      help,
      registers,
      collect() {
        const now = value(status())
        this.inc(now - last)
        last = now
      },
    })
  }
  gauge('gym_relay_places_count', 'Nodes that hold a place now.', (s) => s.reservations)
  gauge('gym_relay_connections_count', 'Open connections.', (s) => s.connections)
  gauge(
    'gym_relay_streams_count',
    'Relayed streams open now; a relayed connection has two.',
    (s) => s.traffic.streams,
  )
  gauge('gym_relay_waiting_bytes', 'Bytes that have come and not left yet.', (s) => s.traffic.waitingBytes)
  counter(
    'gym_relay_bytes_total',
    'Bytes carried from one end to the other, each counted once.',
    (s) => s.traffic.bytes,
  )
  counter(
    'gym_relay_pauses_total',
    'How often a stream was held back, for its receiver or for the rate.',
    (s) => s.traffic.pauses,
  )
  new Gauge({
    name: 'gym_relay_refusals_count',
    help: 'Connections refused or cut since start, by limit.',
    labelNames: ['limit'],
    registers,
    collect() {
      for (const [limit, count] of Object.entries(status().limits)) this.set({ limit }, count)
    },
  })
  collectDefaultMetrics({ register: registry })
  return registry
}

/** Serves `/metrics`. Throws NodeError PORT_IN_USE. */
export async function serveMetrics(registry: Registry, { host, port }: MetricsListen): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (cause) {
    throw new NodeError('PORT_IN_USE', `cannot serve metrics on ${host}:${port}; choose another --metrics`, {
      cause,
    })
  }
  return server
}
