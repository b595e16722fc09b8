/**
 * The configuration file as a schema: every key, its default and one sentence about it. The template, the
 * documentation, the environment variables and the suggestions for unknown keys are made from it.
 */
import { gspoConfigSchema } from '@gym-node/gspo'
import { DELTA_DTYPES } from '@gym-node/wire'
import { z } from 'zod'
import {
  DEFAULT_AGGREGATE_INTERVAL,
  DEFAULT_HTTP_PORT,
  DEFAULT_PEER_TIMEOUT_MS,
  DEFAULT_RING_PORT,
  DEFAULT_TRACE_KEEP_ROUNDS,
} from '../defaults.ts'
import { ATTESTATION_PATH_KEYS, attestationConfigSchema } from '../attestation/config.ts'
import {
  auditConfigSchema,
  VALIDATOR_PATH_KEYS,
  validatorConfigSchema,
} from '../validate/validator-config.ts'
import { multiaddrText, NETWORK_PATH_KEYS, networkConfigSchema } from '../network/config.ts'
import { LOG_FORMATS, LOG_LEVELS } from '../log-levels.ts'

const MAX_PORT = 65_535
const MAX_SEED = 0xffff_ffff

const logSchema = z.strictObject({
  level: z
    .enum(LOG_LEVELS)
    .default('info')
    .describe('Least important level that is logged. info is about one line per round.'),
  format: z
    .enum(LOG_FORMATS)
    .default('auto')
    .describe('auto is readable lines on a terminal and JSON elsewhere.'),
})

const ringSchema = z.strictObject({
  listen: z
    .array(multiaddrText)
    .min(1)
    .default([`/ip4/0.0.0.0/tcp/${DEFAULT_RING_PORT}`])
    .describe('Addresses to listen on, as multiaddrs. Port 0 picks a free port.'),
  bootstrap: z
    .array(multiaddrText)
    .default([])
    .describe(
      'Peers to begin with, as multiaddrs; one that is up is enough. With the peer id (/p2p/...), which `gym-node status` prints, no other can answer in its place.',
    ),
  mdns: z
    .boolean()
    .default(true)
    .describe('Find peers of the same job on the local network by multicast DNS.'),
  min_members: z
    .int()
    .min(1)
    .max(1024)
    .default(2)
    .describe(
      'Members that a new ring needs before it trains; 1 trains alone. One that has formed goes on with those that stay.',
    ),
  quorum: z
    .enum(['majority', 'two-thirds', 'any'])
    .default('majority')
    .describe(
      'Members of the last view that must sign for a new one, and commit a round. two-thirds (more than two thirds) keeps the ring one while fewer than a third of its members lie; majority bears more that are gone. The same on all members. any lets both halves of a cut ring go on: test rings only.',
    ),
  peer_timeout_ms: z
    .int()
    .min(500)
    .max(600_000)
    .default(DEFAULT_PEER_TIMEOUT_MS)
    .describe('Silence after which a peer counts as lost, in milliseconds.'),
  wire: z
    .enum(['f32', 'bf16', 'int8'])
    .default('f32')
    .describe(
      'Number format of the all-reduce on the network, the same on every node of a job. bf16 halves the bytes and keeps 8 bits of precision; int8 sends a quarter and carries what it loses into the next round.',
    ),
  carrier: z
    .enum(['direct', 'stream'])
    .default('direct')
    .describe(
      'What bulk data travels on: a TCP socket of its own with the libp2p stream in reserve, or that stream alone.',
    ),
  sockets: z
    .int()
    .min(1)
    .max(16)
    .default(1)
    .describe(
      'TCP sockets side by side to the next node of the ring, for carrier direct. One fills a local network; a long path that loses packets needs several.',
    ),
  integrity: z
    .enum(['sealed', 'signed'])
    .default('signed')
    .describe(
      'The same on every node of a job. signed: every segment of the mean is proved by a signature of the member that finished it, so no member in between can alter it. sealed: only each hop is authenticated, a little cheaper, for rings whose nodes all have one owner.',
    ),
})

const httpSchema = z.strictObject({
  enabled: z.boolean().default(true).describe('Serve status, metrics and the dashboard.'),
  host: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('Address to serve on. Keep it on loopback unless something in front guards it.'),
  port: z
    .int()
    .min(0)
    .max(MAX_PORT)
    .default(DEFAULT_HTTP_PORT)
    .describe('Port to serve on; 0 picks a free one.'),
  allowed_hosts: z
    .array(z.string().min(1))
    .default([])
    .describe('Host names under which a proxy or a cluster reaches the server, besides its own address.'),
  token_file: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'File whose first line allows pause, resume and leave over HTTP. Without it the server is read-only.',
    ),
})

const outerSchema = z.strictObject({
  kind: z
    .enum(['average', 'nesterov'])
    .default('average')
    .describe('average adds the mean delta; nesterov is the outer optimiser of DiLoCo.'),
  learning_rate: z.number().positive().max(10).default(0.7).describe('Outer learning rate; nesterov only.'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('Outer momentum; nesterov only.'),
})

/** Keys of `train` that are the daemon's; all others are the trainer's and go to it as they are. */
export const loopShape = {
  aggregate_interval: z
    .int()
    .min(1)
    .max(100_000)
    .default(DEFAULT_AGGREGATE_INTERVAL)
    .describe('Local steps between two rounds.'),
  overlap: z
    .boolean()
    .default(false)
    .describe(
      'Take the local steps of the next round while this one is averaged: hides a slow network, and every delta is applied one round late. The same on every node of a job.',
    ),
  rounds: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('Stop after this many committed rounds of the ring; null never stops.'),
  delta_dtype: z
    .enum(DELTA_DTYPES)
    .default('f32')
    .describe(
      'Numbers of the delta files and of what this node brings to the ring. What a smaller type than f32 loses in one round is sent in the next.',
    ),
  delta_compression: z
    .enum(['none', 'lz4', 'zstd'])
    .default('zstd')
    .describe('Compression of the delta files.'),
  delta_keep_rounds: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('Rounds whose delta files are kept; null keeps all.'),
  trace_keep_rounds: z
    .int()
    .min(0)
    .default(DEFAULT_TRACE_KEEP_ROUNDS)
    .describe('Rounds whose traces and start states are kept, for replay. 0 writes none.'),
  seed: z
    .int()
    .min(0)
    .max(MAX_SEED)
    .nullable()
    .default(null)
    .describe(
      'Draws data order and samples. null derives it from the identity, so that no two nodes sample alike.',
    ),
  outer: outerSchema
    .prefault({})
    .describe('How the mean delta moves the shared adapter; the same on every node.'),
} as const

const tracingSchema = z.strictObject({
  endpoint: z
    .url({ protocol: /^https?$/ })
    .nullable()
    .default(null)
    .describe(
      'Trace receiver of an OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces. null traces nothing. Needs the OpenTelemetry packages.',
    ),
})

/** The whole file. */
export const nodeConfigSchema = z.strictObject({
  state_dir: z
    .string()
    .min(1)
    .default('./gym-state')
    .describe('Folder for identity, checkpoint, deltas and history. One daemon only.'),
  job: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, {
      error: 'expected 1 to 64 letters, digits, dots, dashes or underscores',
    })
    .default('default')
    .describe('Name of the common work. Nodes of other jobs are ignored.'),
  role: z
    .enum(['worker', 'validator'])
    .default('worker')
    .describe('worker trains; validator audits the deltas of workers and never trains.'),
  log: logSchema.prefault({}).describe('Logging, to standard output.'),
  ring: ringSchema.prefault({}).describe('The peers.'),
  network: networkConfigSchema.prefault({}).describe('How peers find each other.'),
  http: httpSchema.prefault({}).describe('The status server.'),
  tracing: tracingSchema.prefault({}).describe('OpenTelemetry traces.'),
  attestation: attestationConfigSchema.prefault({}).describe('Proof of the machine in each delta.'),
  audit: auditConfigSchema.prefault({}).describe('What a worker offers to validators.'),
  validator: validatorConfigSchema.prefault({}).describe('What a validator does.'),
  train: z.strictObject({ ...gspoConfigSchema.shape, ...loopShape }).describe('The training.'),
})

/** A complete configuration. */
export type NodeConfig = z.infer<typeof nodeConfigSchema>

/** Configuration keys whose values are paths, relative to the file they are written in. */
export const PATH_KEYS: readonly string[] = [
  'state_dir',
  'http.token_file',
  'train.model',
  'train.adapter',
  'train.dataset',
  'train.rewards.*.module',
  'train.rewards.*.schema',
  'train.rollout_server.adapter_dir',
  ...NETWORK_PATH_KEYS,
  ...ATTESTATION_PATH_KEYS,
  ...VALIDATOR_PATH_KEYS,
]
