/** `gym-node status`: asks the daemon of a state folder what it is doing, and why. */
import { Command } from 'commander'
import { z } from 'zod'
import { loadStateDir } from '../config/load.ts'
import { STATUS_TIMEOUT_MS } from '../defaults.ts'
import { messageOf, NodeError } from '../errors.ts'
import { isAlive, readDaemonFile } from '../state/daemon-file.ts'
import { statePaths } from '../state/folder.ts'
import type { DaemonStatus, NetworkStatus } from '../status.ts'
import { addFolderOptions, configSources, type ConfigFlags } from './config-options.ts'
import { formatBytes, formatCount, formatDuration, formatLoss, shortPeer } from './format.ts'

/** The command. */
export function statusCommand(): Command {
  const command = new Command('status').description('what the daemon of a state folder is doing, and why')
  return addFolderOptions(command)
    .option('--json', 'print the status document as JSON')
    .action(async (flags: ConfigFlags & { json?: boolean }) => {
      const status = await fetchStatus(await loadStateDir(configSources(flags)))
      process.stdout.write(
        flags.json === true ? `${JSON.stringify(status, null, 2)}\n` : statusText(status, new Date()),
      )
    })
}

/** The status document of the daemon in `stateDir`. Throws NodeError NOT_RUNNING or NOT_REACHABLE. */
export async function fetchStatus(stateDir: string): Promise<DaemonStatus> {
  const document: unknown = await (await fetchFromDaemon(stateDir, '/status.json')).json()
  if (!isStatus(document))
    throw new NodeError('NOT_REACHABLE', 'the answer is not a status document of schema 1')
  return document
}

/** One request to the daemon of a state folder, with a deadline. Throws NodeError NOT_RUNNING or NOT_REACHABLE. */
export async function fetchFromDaemon(stateDir: string, path: string): Promise<Response> {
  const daemon = await readDaemonFile(statePaths(stateDir).daemon)
  if (!isAlive(daemon.pid)) {
    throw new NodeError(
      'NOT_RUNNING',
      `the daemon of ${stateDir} (pid ${daemon.pid}) is gone without having stopped`,
    )
  }
  if (daemon.http === null)
    throw new NodeError(
      'NOT_REACHABLE',
      `the daemon with pid ${daemon.pid} serves no status (http.enabled is false)`,
    )
  const url = new URL(path, daemon.http)
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(STATUS_TIMEOUT_MS) })
    if (!response.ok) throw new NodeError('NOT_REACHABLE', `${url.href} answers ${response.status}`)
    return response
  } catch (error) {
    if (error instanceof NodeError) throw error
    throw new NodeError('NOT_REACHABLE', `${url.href} does not answer: ${messageOf(error)}`, { cause: error })
  }
}

/** The daemon's live events until `signal` or until the daemon stops: server-sent events, parsed. */
export async function* openDaemonStream(
  stateDir: string,
  signal: AbortSignal,
): AsyncGenerator<{ name: string; body: unknown }> {
  const daemon = await readDaemonFile(statePaths(stateDir).daemon)
  if (daemon.http === null)
    throw new NodeError(
      'NOT_REACHABLE',
      `the daemon with pid ${daemon.pid} serves no events (http.enabled is false)`,
    )
  const response = await fetch(new URL('/events', daemon.http), { signal })
  if (!response.ok || response.body === null)
    throw new NodeError('NOT_REACHABLE', `${daemon.http}events answers ${response.status}`)
  let text = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const frames = text.split('\n\n')
    text = frames.pop() ?? ''
    for (const frame of frames) {
      const name = /^event: (.*)$/m.exec(frame)?.[1]
      const line = /^data: (.*)$/m.exec(frame)?.[1]
      if (name !== undefined && line !== undefined) yield { name, body: JSON.parse(line) as unknown }
    }
  }
}

/** The status as text for a person. `now` makes the uptime. Pure. */
export function statusText(status: DaemonStatus, now: Date): string {
  const uptime = formatDuration(now.getTime() - Date.parse(status.started_at))
  const lines = [
    `${status.role} of job ${status.job}, gym-node ${status.version}, pid ${status.pid}, up ${uptime}`,
    `peer id    ${status.peer_id}`,
    `state      ${status.state}: ${status.state_reason}`,
  ]
  if (status.model !== null) {
    lines.push(
      `model      ${status.model.architecture}, ${formatCount(status.model.parameters)} parameters, on ${status.engine ?? 'no engine'}`,
    )
  }
  lines.push(`progress   round ${status.round}, step ${status.step}`)
  const step = status.last_step
  if (step !== null) {
    lines.push(
      `last step  reward ${step.rewardMean.toFixed(3)}, loss ${formatLoss(step.loss)}, ${formatCount(step.tokensPerSecond)} tokens/s`,
    )
  }
  const round = status.last_round
  if (round !== null) {
    lines.push(
      `last round all-reduce ${formatDuration(round.duration_ms)}, ${formatBytes(round.bytes_sent)} sent, ${round.contributors.length} contributors, adapter ${round.adapter_sha3_256.slice(0, 16)}`,
    )
  }
  const delta = status.last_delta
  if (delta !== null) {
    const lost =
      delta.relative_error === 0
        ? ''
        : `, ${(100 * delta.relative_error).toPrecision(2)} % goes with the next`
    lines.push(`last delta round ${delta.round}, ${formatBytes(delta.bytes)} of ${delta.dtype}${lost}`)
  }
  const { accepted, rejected, unavailable, last } = status.verdicts
  if (last !== null) {
    lines.push(
      `verdicts   ${accepted} accepted, ${rejected} rejected, ${unavailable} without files; last: ${last.result}, round ${last.round} of ${shortPeer(last.worker_id)}${last.failed.length === 0 ? '' : ` (${last.failed.join(', ')})`}`,
    )
  }
  const { ring } = status
  lines.push(
    `ring       ${ring.epoch === null ? 'no view yet' : `view ${ring.epoch}`}, quorum ${ring.quorum}, ${formatBytes(ring.bytes_sent)} sent, ${formatBytes(ring.bytes_received)} received`,
  )
  for (const member of ring.members) {
    lines.push(
      `  ${shortPeer(member.peer_id)}  ${member.state}${member.round === null ? '' : `, round ${member.round}`}`,
    )
  }
  for (const address of ring.addresses) lines.push(`address    ${address}`)
  if (ring.network != null) lines.push(...networkLines(ring.network))
  if (status.last_error !== null)
    lines.push(`last error ${status.last_error.time} ${status.last_error.code}: ${status.last_error.message}`)
  return `${lines.join('\n')}\n`
}

/** Whether others can reach this node, over what, and what to do if not. */
function networkLines(network: NetworkStatus): string[] {
  const { reachability, seen, advice, connections, relayed_connections: relayed, reservations } = network
  const relays = reservations === 0 ? '' : `, a place at ${reservations} relays`
  const lines = [
    `network    ${reachability}: ${seen}; ${connections} connections, ${relayed} of them relayed${relays}`,
  ]
  return advice === '' ? lines : [...lines, `           -> ${advice}`]
}

function isStatus(value: unknown): value is DaemonStatus {
  return z
    .looseObject({
      schema: z.literal(1),
      state: z.string(),
      ring: z.looseObject({ members: z.array(z.unknown()) }),
    })
    .safeParse(value).success
}
