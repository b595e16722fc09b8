/**
 * Sends the daemon's spans to an OpenTelemetry collector over OTLP/HTTP. Off unless `tracing.endpoint` is set; only
 * then are the OpenTelemetry packages loaded, which are optional. A collector that is away costs spans, nothing else.
 */
import type * as OpenTelemetryApi from '@opentelemetry/api'
import type { Context, Tracer } from '@opentelemetry/api'
import type * as OtlpExporter from '@opentelemetry/exporter-trace-otlp-http'
import type * as Resources from '@opentelemetry/resources'
import type * as TraceSdk from '@opentelemetry/sdk-trace'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf, NodeError } from '../errors.ts'
import type { DaemonEvent } from '../status.ts'
import {
  FAULT_LOG_MS,
  TRACING_EXPORT_MS,
  TRACING_QUEUE_SPANS,
  TRACING_SEND_EVERY_MS,
  TRACING_STOP_MS,
} from './defaults.ts'
import type { ObserveLogger } from './observatory.ts'
import { SpanBuilder, type SpanRecord } from './spans.ts'

/** Where spans go, and what they say of their sender. */
export interface TracingOptions {
  /** Full URL of the collector's trace receiver, such as http://127.0.0.1:4318/v1/traces; null for no tracing. */
  readonly endpoint: string | null
  readonly peerId: string
  readonly job: string
  readonly version: string
  readonly logger: ObserveLogger
}

/** The daemon's end. */
export interface Tracing {
  /** Never throws, never waits. */
  emit(event: DaemonEvent): void
  /** Sends what is queued, within a deadline. */
  stop(): Promise<void>
}

interface Packages {
  readonly api: typeof OpenTelemetryApi
  readonly sdk: typeof TraceSdk
  readonly resources: typeof Resources
  readonly exporter: typeof OtlpExporter
}

const OFF: Tracing = { emit: () => undefined, stop: async () => undefined }

/** Opens tracing. Throws NodeError TRACING_UNAVAILABLE when it is asked for and the packages are not installed. */
export async function openTracing(options: TracingOptions): Promise<Tracing> {
  if (options.endpoint === null) return OFF
  const { api, sdk, resources, exporter } = await loadPackages()
  const { logger } = options
  let loggedAt = -Infinity
  const report = (message: string): void => {
    if (performance.now() - loggedAt < FAULT_LOG_MS) return
    loggedAt = performance.now()
    logger.warn({ code: 'TRACING_FAILED' }, `spans are lost, training goes on: ${message.slice(0, 300)}`)
  }
  const ignore = (): void => undefined
  api.diag.setLogger(
    { error: report, warn: ignore, info: ignore, debug: ignore, verbose: ignore },
    api.DiagLogLevel.ERROR,
  )
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({
      'service.name': 'gym-node',
      'service.version': options.version,
      'service.instance.id': options.peerId,
      'gym.job': options.job,
    }),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new exporter.OTLPTraceExporter({ url: options.endpoint, timeoutMillis: TRACING_EXPORT_MS }),
        maxQueueSize: TRACING_QUEUE_SPANS,
        maxExportBatchSize: TRACING_QUEUE_SPANS / 4,
        scheduledDelayMillis: TRACING_SEND_EVERY_MS,
        exportTimeoutMillis: TRACING_EXPORT_MS,
      }),
    ],
  })
  const tracer = provider.getTracer('gym-node', options.version)
  const builder = new SpanBuilder()
  return {
    emit: (event) => {
      // Not Date.now(): a clock that somebody sets must not make spans of negative length.
      for (const span of builder.take(event, performance.timeOrigin + performance.now()))
        record(api, tracer, span, api.ROOT_CONTEXT)
    },
    stop: async () => {
      await Promise.race([
        provider.shutdown().catch((error: unknown) => report(String(error))),
        sleep(TRACING_STOP_MS, undefined, { ref: false }),
      ])
    },
  }
}

function record(api: Packages['api'], tracer: Tracer, span: SpanRecord, parent: Context): void {
  const made = tracer.startSpan(span.name, { startTime: span.start, attributes: span.attributes }, parent)
  for (const note of span.notes) made.addEvent(note.name, note.attributes, note.at)
  if (span.failure !== null) made.setStatus({ code: api.SpanStatusCode.ERROR, message: span.failure })
  const context = api.trace.setSpan(parent, made)
  for (const child of span.children) record(api, tracer, child, context)
  made.end(span.end)
}

/** The optional packages; `await import`, so that a daemon without tracing never loads them. */
async function loadPackages(): Promise<Packages> {
  try {
    const [api, sdk, resources, exporter] = await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace'),
      import('@opentelemetry/resources'),
      import('@opentelemetry/exporter-trace-otlp-http'),
    ])
    return { api, sdk, resources, exporter }
  } catch (error) {
    if (errnoOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new NodeError('TRACING_UNAVAILABLE', 'tracing.endpoint is set and OpenTelemetry is not installed', {
      cause: error,
    })
  }
}
