/** The published shape of `/status.json`: a zod schema held equal to `DaemonStatus` by the compiler. */
import { DELTA_DTYPES } from '@gym-node/wire'
import { z } from 'zod'
import { DAEMON_STATES, REACHABILITIES } from '../status.ts'
import type { DaemonStatus } from '../status.ts'

const whole = z.int().min(0)
const hex64 = z.string().regex(/^[0-9a-f]{64}$/)
const peerId = z.string().min(1).describe('libp2p peer id')
const rfc3339 = z.iso.datetime({ offset: true })

const stepStats = z
  .object({
    step: whole.describe('1 for the first'),
    loss: z.number(),
    rewardMean: z.number(),
    rewardStd: z.number(),
    clipRatioLow: z.number(),
    clipRatioHigh: z.number(),
    kl: z.number().describe('nats'),
    entropy: z.number().describe('nats'),
    gradNorm: z.number(),
    learningRate: z.number(),
    ratioMean: z.number(),
    completionLengthMean: z.number().describe('tokens'),
    completionLengthMin: z.number().describe('tokens'),
    completionLengthMax: z.number().describe('tokens'),
    truncatedFraction: z.number(),
    zeroVarianceFraction: z.number(),
    unscorable: whole,
    groups: whole,
    completions: whole,
    promptTokens: whole,
    generatedTokens: whole,
    tokensPerSecond: z.number(),
    peakMemoryBytes: whole.describe('largest resident memory of the engine so far'),
    rewardMeans: z.array(z.object({ name: z.string(), mean: z.number() }).readonly()).readonly(),
    seconds: z
      .object({
        rollout: z.number(),
        reward: z.number(),
        forwardBackward: z.number(),
        optimizer: z.number(),
        total: z.number(),
      })
      .readonly(),
  })
  .readonly()
  .describe('Statistics of a local training step; durations in seconds')

const roundStatus = z
  .object({
    round: whole,
    epoch: whole,
    duration_ms: z.number().min(0),
    bytes_sent: whole,
    bytes_received: whole,
    contributors: z.array(peerId).readonly(),
    attempts: whole,
    result_sha3_256: hex64.describe('of the mean vector that the ring agreed on'),
    adapter_sha3_256: hex64.describe('of the adapter after the outer update'),
  })
  .readonly()
  .describe('A committed all-reduce round; bytes are those of this node')

const member = z
  .object({
    peer_id: peerId,
    state: z.enum(['self', 'alive', 'suspect', 'lost']),
    round: whole.nullable().describe('last committed round it told us; null before its first word'),
  })
  .readonly()

const counts = z.record(z.string(), whole).readonly()

const network = z
  .object({
    reachability: z.enum(REACHABILITIES),
    seen: z.string().describe('one sentence: what the verdict comes from'),
    advice: z.string().describe('one sentence: what to do about it; empty when nothing'),
    reservations: whole.describe('relays that hold a place for this node'),
    connections: whole,
    relayed_connections: whole,
    hole_punches: whole.describe('relayed connections that became direct'),
    found: counts.describe('peers met, by how they were first heard of'),
    dials: whole,
    dial_failures: counts.describe('by reason'),
    limits: counts.describe('how often a peer ran into a limit, by its name'),
  })
  .readonly()

const delta = z
  .object({
    round: whole,
    bytes: whole,
    dtype: z.enum(DELTA_DTYPES),
    relative_error: z.number().describe('norm of what the dtype lost by the norm of what was to be sent'),
  })
  .readonly()
  .describe('the last delta that this node signed')

const verdict = z
  .object({
    round: whole,
    worker_id: peerId,
    validator_id: peerId,
    result: z.enum(['accepted', 'rejected', 'unavailable']),
    failed: z.array(z.string()).readonly().describe('names of the checks that failed'),
  })
  .readonly()

/** Accepts exactly the documents that the daemon may send; unknown keys are allowed, so that it may grow. */
export const statusSchema = z
  .object({
    schema: z.literal(1),
    version: z.string(),
    pid: whole,
    peer_id: peerId,
    role: z.string(),
    job: z.string(),
    started_at: rfc3339,
    state: z.enum(DAEMON_STATES),
    state_reason: z.string().describe('one sentence: why it is in this state, and what it waits for'),
    seconds_since_progress: z
      .number()
      .min(0)
      .nullable()
      .describe('since the last local step, commit, verdict or entry into training; null before the first'),
    engine: z.string().nullable(),
    model: z
      .object({ path: z.string(), architecture: z.string(), parameters: whole, sha256: hex64 })
      .readonly()
      .nullable(),
    dataset_size: whole.nullable(),
    step: whole,
    round: whole,
    ring: z
      .object({
        ring_id: z.string().nullable(),
        epoch: whole.nullable(),
        quorum: z.string(),
        members: z.array(member).readonly(),
        addresses: z.array(z.string()).readonly().describe('multiaddrs'),
        view_changes: whole,
        bytes_sent: whole,
        bytes_received: whole,
        frames_rejected: whole,
        rejected: counts.describe('frames and messages refused, by error code'),
        network: network.nullable().describe('null while this node is in no ring'),
      })
      .readonly(),
    last_step: stepStats.nullable(),
    last_round: roundStatus.nullable(),
    last_delta: delta.nullable(),
    verdicts: z
      .object({ accepted: whole, rejected: whole, unavailable: whole, last: verdict.nullable() })
      .readonly()
      .describe('signed verdicts of validators that this node knows, restarts included'),
    last_error: z.object({ time: rfc3339, code: z.string(), message: z.string() }).readonly().nullable(),
  })
  .readonly()

/** True when A and B are each assignable to the other. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false

/** Fails to compile when the schema and the type of the daemon part ways. */
export const STATUS_SCHEMA_IS_THE_TYPE: Same<z.infer<typeof statusSchema>, DaemonStatus> = true

/** The JSON schema (draft 2020-12) that is published as `docs/status.schema.json`. */
export function statusJsonSchema(): object {
  const { $schema, ...body } = z.toJSONSchema(statusSchema, { io: 'input', override: tidy })
  return {
    $schema,
    title: 'gym-node status',
    description: 'The document at /status.json of a gym-node daemon.',
    ...body,
  }
}

/** Leaves out what zod adds and no reader needs: bounds of safe integers, marks of readonly, a pattern beside a format. */
function tidy({ jsonSchema }: { jsonSchema: Record<string, unknown> }): void {
  if (jsonSchema['maximum'] === Number.MAX_SAFE_INTEGER) delete jsonSchema['maximum']
  if (jsonSchema['format'] !== undefined) delete jsonSchema['pattern']
  delete jsonSchema['readOnly']
}
