/** Documents and events for the observatory's tests: seeded, so that every run sees the same training. */
import { request as httpRequest } from 'node:http'
import type { StepStats } from '@gym-node/gspo'
import type { DaemonEvent, DaemonStatus, MemberStatus, RoundStatus } from '../src/status.ts'

/** A small seeded generator (mulberry32): numbers in [0, 1). */
export function seededRandom(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A peer id in libp2p's form (base58, `12D3KooW` and 44 characters more). */
export function fakePeerId(index: number): string {
  const alphabet = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
  const random = seededRandom(index + 1)
  return `12D3KooW${Array.from({ length: 44 }, () => alphabet[Math.floor(random() * 58)]).join('')}`
}

/** Statistics of a step on a plausible learning curve. */
export function stepStats(step: number, random: () => number = () => 0.5): StepStats {
  const learned = 1 - Math.exp(-step / 400)
  const noise = random() - 0.5
  return {
    step,
    loss: 0.02 * noise - 0.01 * learned,
    rewardMean: 0.12 + 0.78 * learned + 0.12 * noise * (1.2 - learned),
    rewardStd: 0.42 * (1.1 - learned) + 0.04 * random(),
    clipRatioLow: 0.04 + 0.03 * random(),
    clipRatioHigh: 0.05 + 0.04 * random(),
    kl: 0.002 + 0.05 * learned + 0.004 * random(),
    entropy: 2.1 - 1.2 * learned + 0.1 * noise,
    gradNorm: 0.4 + 0.5 * random(),
    learningRate: 1e-5,
    ratioMean: 1 + 0.0004 * noise,
    completionLengthMean: 40 + 70 * learned + 8 * noise,
    completionLengthMin: 9,
    completionLengthMax: 180,
    truncatedFraction: 0.02,
    unscorable: 0,
    rewardMeans: [{ name: 'numeric', mean: 0.12 + 0.78 * learned }],
    zeroVarianceFraction: 0.1 + 0.5 * learned * random(),
    groups: 8,
    completions: 64,
    promptTokens: 1200,
    generatedTokens: 4000,
    peakMemoryBytes: 1_500_000_000,
    tokensPerSecond: 900 + 160 * noise - (random() < 0.01 ? 500 : 0),
    seconds: { rollout: 2.1, reward: 0.02, forwardBackward: 1.4, optimizer: 0.05, total: 3.6 },
  }
}

/** A committed round. */
export function roundStatus(round: number, random: () => number = () => 0.5, members = 3): RoundStatus {
  return {
    round,
    epoch: 4,
    duration_ms: 240 + 120 * random() + (random() < 0.02 ? 1900 : 0),
    bytes_sent: 5_600_000,
    bytes_received: 5_600_000,
    contributors: Array.from({ length: members }, (_, i) => fakePeerId(i)),
    attempts: 1,
    result_sha3_256: 'a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a',
    adapter_sha3_256: '3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532',
  }
}

/** Members of a view of `count`, the first being this daemon. */
export function memberList(count: number, round: number): MemberStatus[] {
  return Array.from({ length: count }, (_, i) => ({
    peer_id: fakePeerId(i),
    state: i === 0 ? 'self' : 'alive',
    round,
  }))
}

/** A status document in which everything is filled; parts can be replaced. */
export function statusDocument(parts: Partial<DaemonStatus> = {}): DaemonStatus {
  return {
    schema: 1,
    version: '0.1.0',
    pid: 4711,
    peer_id: fakePeerId(0),
    role: 'worker',
    job: 'arithmetic',
    started_at: '2026-11-20T08:15:00.000Z',
    state: 'training',
    state_reason: 'step 3 of 4 before round 312',
    seconds_since_progress: 1.5,
    engine: 'onnx-cpu',
    model: {
      path: '/var/lib/gym-node/models/arith-model',
      architecture: 'Qwen3ForCausalLM',
      parameters: 1_234_944,
      sha256: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    },
    dataset_size: 2000,
    step: 1247,
    round: 311,
    ring: {
      ring_id: 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9',
      epoch: 4,
      quorum: 'majority',
      members: memberList(3, 311),
      addresses: ['/ip4/10.0.0.11/tcp/4160'],
      view_changes: 4,
      bytes_sent: 1_741_600_000,
      bytes_received: 1_741_600_000,
      frames_rejected: 0,
      rejected: { PEER_FLOOD: 2 },
      network: {
        reachability: 'public',
        seen: 'dialled back by 2 of 2 peers',
        advice: '',
        reservations: 0,
        connections: 3,
        relayed_connections: 1,
        hole_punches: 1,
        found: { bootstrap: 1, dht: 1 },
        dials: 9,
        dial_failures: { refused: 4 },
        limits: { denied: 0 },
      },
    },
    last_step: stepStats(1247),
    last_round: roundStatus(311),
    last_delta: null,
    verdicts: {
      accepted: 12,
      rejected: 1,
      unavailable: 0,
      last: {
        round: 309,
        worker_id: fakePeerId(0),
        validator_id: fakePeerId(1),
        result: 'rejected',
        failed: ['adapter'],
      },
    },
    last_error: null,
    ...parts,
  }
}

/** A logger that keeps what it was told. */
export class ListLogger {
  readonly lines: { level: string; fields: object; message: string }[] = []

  debug(fields: object, message: string): void {
    this.lines.push({ level: 'debug', fields, message })
  }
  info(fields: object, message: string): void {
    this.lines.push({ level: 'info', fields, message })
  }
  warn(fields: object, message: string): void {
    this.lines.push({ level: 'warn', fields, message })
  }
  error(fields: object, message: string): void {
    this.lines.push({ level: 'error', fields, message })
  }
}

/** What came back over HTTP. */
export interface Answer {
  readonly code: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly text: string
}

/** One request with exactly the given headers: `fetch` would not let a test set Host. */
export function ask(
  url: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, {
      method: options.method ?? 'GET',
      headers: options.headers ?? {},
      agent: false,
    })
    request.on('error', reject)
    request.on('response', (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        resolve({
          code: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(parts).toString(),
        })
      })
    })
    request.end()
  })
}

/** One event of every type. */
export function everyEvent(): DaemonEvent[] {
  return [
    { type: 'state', state: 'training', reason: 'the view has 3 members' },
    { type: 'step', round: 312, stats: stepStats(1248) },
    { type: 'round', round: roundStatus(312) },
    { type: 'view', epoch: 5, members: [fakePeerId(0), fakePeerId(1)] },
    {
      type: 'delta',
      round: 312,
      file: 'round-312.delta',
      bytes: 40_960,
      sha3_256: 'ab'.repeat(32),
      verified: true,
      dtype: 'f32',
      relative_error: 0,
    },
    { type: 'rollout', step: 1248, prompt: '12 + 30 =', completion: '42', reward: 1 },
    { type: 'error', code: 'PEER_LOST', message: 'no chunk for 5 s' },
  ]
}
