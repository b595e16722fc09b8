/** `gym-node relay`: holds places for nodes behind NAT and leads newcomers to the peers of their job. Needs no model. */
import { resolve } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import type { MetricsListen } from '../relay-metrics.ts'
import { listenForStop } from '../signals.ts'

const HELP = `
Run it on a machine that others can reach, and give its address (printed at start, with /p2p/...) to nodes as
ring.bootstrap or network.relays. It carries sealed bytes that it cannot read, up to the limits below.
`

const DEFAULT_LISTEN = '/ip4/0.0.0.0/tcp/4161'
const HOUR_MS = 3_600_000
const GIB = 1024 ** 3
const BYTES_PER_MBIT = 125_000

/** How often the relay logs how much it is used. */
const REPORT_MS = 10 * 60_000

interface RelayFlags {
  readonly stateDir: string
  readonly listen: string[]
  readonly announce: string[]
  readonly bootstrap: string[]
  readonly deny: string[]
  readonly swarmKeyFile?: string
  readonly places: number
  readonly gib: number
  readonly hours: number
  readonly mbit?: number
  readonly metrics?: MetricsListen
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error'
}

/** The command. */
export function relayCommand(): Command {
  return new Command('relay')
    .description('run a relay for nodes behind NAT and a meeting place for all jobs')
    .option('--state-dir <folder>', 'folder of its identity', './gym-relay')
    .option('--listen <multiaddr,...>', 'addresses to listen on', list, [DEFAULT_LISTEN])
    .option(
      '--announce <multiaddr,...>',
      'addresses to tell others besides: a forwarded port, a name',
      list,
      [],
    )
    .option('--bootstrap <multiaddr,...>', 'other relays to join', list, [])
    .option('--deny <peer,...>', 'peer ids that are not served', list, [])
    .option('--swarm-key-file <file>', 'key of a private network')
    .option('--places <n>', 'nodes that may hold a place at once', positive, 256)
    .option('--gib <n>', 'GiB that one relayed connection may carry before it is cut', positive, 16)
    .option('--hours <n>', 'hours that one relayed connection may live', positive, 24)
    .option(
      '--mbit <n>',
      'Mbit/s that all relayed connections may use together (default: no limit)',
      positive,
    )
    .option('--metrics <host:port>', 'serve Prometheus metrics at /metrics (default: not at all)', hostPort)
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .addHelpText('after', HELP)
    .action(runRelay)
}

async function runRelay(flags: RelayFlags): Promise<void> {
  const { createRelay } = await import('@gym-node/ring')
  const { createLogger } = await import('../log.ts')
  const { loadOrCreateIdentity } = await import('../state/identity-files.ts')
  const { openStateFolder } = await import('../state/folder.ts')
  const { readSwarmKey } = await import('../network/ring-network.ts')
  const { relayRegistry, serveMetrics } = await import('../relay-metrics.ts')
  const log = createLogger({ level: flags.logLevel, format: 'auto' })
  const folder = await openStateFolder(resolve(flags.stateDir))
  const stop = listenForStop((signal) => log.info({ signal }, 'stopping; the same signal again ends at once'))
  try {
    const { identity } = await loadOrCreateIdentity(folder.paths.identity)
    const swarmKey = await readSwarmKey(flags.swarmKeyFile ?? null)
    const relay = await createRelay({
      identity,
      listen: flags.listen,
      announce: flags.announce,
      bootstrap: flags.bootstrap,
      deny: flags.deny,
      ...(swarmKey === null ? {} : { swarmKey }),
      limits: {
        places: flags.places,
        bytesPerConnection: Math.round(flags.gib * GIB),
        msPerConnection: Math.round(flags.hours * HOUR_MS),
        bytesPerSecond: flags.mbit === undefined ? null : flags.mbit * BYTES_PER_MBIT,
      },
      logger: log,
    })
    await relay.start()
    const metrics =
      flags.metrics === undefined
        ? null
        : await serveMetrics(
            relayRegistry(() => relay.status),
            flags.metrics,
          )
    const scraped = metrics?.address() ?? null
    if (scraped !== null && typeof scraped === 'object') log.info({ port: scraped.port }, 'metrics')
    for (const address of relay.addresses) process.stderr.write(`relay ${address}\n`)
    const report = setInterval(() => log.info({ ...relay.status }, 'relay in use'), REPORT_MS)
    await aborted(stop.signal)
    clearInterval(report)
    metrics?.close()
    metrics?.closeAllConnections()
    await relay.stop()
    log.info('stopped')
  } finally {
    stop.release()
    folder.close()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done()
    else signal.addEventListener('abort', () => done(), { once: true })
  })
}

function list(text: string): string[] {
  return text.split(',').filter((part) => part !== '')
}

function hostPort(text: string): MetricsListen {
  const at = text.lastIndexOf(':')
  const port = Number(text.slice(at + 1))
  const host = text.slice(0, at).replace(/^\[(.*)\]$/, '$1')
  if (at > 0 && text.slice(at + 1) !== '' && Number.isInteger(port) && port >= 0 && port <= 65_535)
    return { host, port }
  throw new InvalidArgumentError('expected host:port, as in 127.0.0.1:9465')
}

function positive(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0) return value
  throw new InvalidArgumentError('expected a number above 0')
}
