/** Commands that look at a running daemon: peers, rounds, logs and top. */
import { Command } from 'commander'
import { createLogUpdate } from 'log-update'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { loadStateDir } from '../config/load.ts'
import { TOP_INTERVAL_MS } from '../defaults.ts'
import { NodeError } from '../errors.ts'
import { axisBounds, drawCurve } from '../ring-command/curve.ts'
import { listenForStop } from '../signals.ts'
import { statePaths } from '../state/folder.ts'
import type { DaemonEvent } from '../status.ts'
import { readRoundRecords } from '../validate/round-records.ts'
import { addFolderOptions, configSources, type ConfigFlags } from './config-options.ts'
import { fetchFromDaemon, fetchStatus, openDaemonStream, statusText } from './status.ts'

type Flags = ConfigFlags & { readonly json?: boolean; readonly limit?: string; readonly follow?: boolean }

const CURVE_HEIGHT = 4
const DEFAULT_LIMIT = '20'

const recentSchema = z.object({
  events: z.array(z.object({ at: z.number(), event: z.custom<DaemonEvent>() })),
})

const curveSchema = z.object({
  tables: z.array(
    z.object({ series: z.record(z.string(), z.object({ mean: z.array(z.number().nullable()) })) }),
  ),
})

/** The four commands. */
export function watchCommands(): Command[] {
  return [peersCommand(), roundsCommand(), logsCommand(), topCommand()]
}

function peersCommand(): Command {
  return addFolderOptions(new Command('peers').description('the members of the ring as the daemon sees them'))
    .option('--json', 'print JSON')
    .action(async (flags: Flags) => {
      const { ring } = await fetchStatus(await loadStateDir(configSources(flags)))
      if (flags.json === true) return print(`${JSON.stringify(ring.members, null, 2)}\n`)
      const rows = ring.members.map(
        ({ peer_id, state, round }) =>
          `${peer_id}  ${state.padEnd(8)} ${round === null ? 'no round yet' : `round ${round}`}`,
      )
      print(`${rows.length === 0 ? 'no peers yet' : rows.join('\n')}\n`)
    })
}

function roundsCommand(): Command {
  return addFolderOptions(
    new Command('rounds').description('the last committed rounds; needs no running daemon'),
  )
    .option('-n, --limit <n>', 'rounds to show', DEFAULT_LIMIT)
    .option('--json', 'print JSON')
    .action(async (flags: Flags) => {
      const paths = statePaths(await loadStateDir(configSources(flags)))
      const records = await readRoundRecords(paths.traces).catch((error: unknown) => {
        throw new NodeError('FILE_NOT_FOUND', `${paths.root} is no state folder of a worker`, {
          cause: error,
        })
      })
      const shown = records.slice(-count(flags.limit))
      if (flags.json === true) return print(`${JSON.stringify(shown, null, 2)}\n`)
      const rows = shown.map(
        ({ round, epoch, contributions, adapter_after }) =>
          `round ${String(round).padEnd(6)} view ${String(epoch).padEnd(4)} ${contributions.length} contributors, ${contributions.reduce((sum, { weight }) => sum + weight, 0)} completions, adapter ${adapter_after.slice(0, 16)}`,
      )
      print(`${rows.length === 0 ? 'no committed rounds yet' : rows.join('\n')}\n`)
    })
}

function logsCommand(): Command {
  return addFolderOptions(
    new Command('logs').description("the daemon's history of events; its full log is on its standard output"),
  )
    .option('-n, --limit <n>', 'events to show', DEFAULT_LIMIT)
    .option('-f, --follow', 'go on as things happen, until Ctrl+C')
    .option('--json', 'print JSON, one object a line')
    .action(async (flags: Flags) => {
      const stateDir = await loadStateDir(configSources(flags))
      const show = (at: number, event: DaemonEvent): void =>
        print(
          flags.json === true
            ? `${JSON.stringify({ at: new Date(at).toISOString(), ...event })}\n`
            : `${new Date(at).toISOString()}  ${eventText(event)}\n`,
        )
      const showRecent = async (): Promise<void> => {
        const response = await fetchFromDaemon(stateDir, `/api/recent?type=log&limit=${count(flags.limit)}`)
        const { events } = recentSchema.parse(await response.json())
        for (const { at, event } of events.toSorted((a, b) => a.at - b.at)) show(at, event)
      }
      if (flags.follow !== true) return showRecent()
      await untilStopped(async (signal) => {
        await showRecent()
        for await (const { name, body } of openDaemonStream(stateDir, signal)) {
          const event = z
            .looseObject({
              type: z.literal(['state', 'view', 'round', 'error', 'step']),
              at: z.number().optional(),
            })
            .safeParse(body)
          if (name !== 'status' && event.success) show(event.data.at ?? Date.now(), body as DaemonEvent)
        }
      })
    })
}

function topCommand(): Command {
  return addFolderOptions(new Command('top').description('what the daemon is doing, live, until Ctrl+C'))
    .option('--json', 'print one status document a second')
    .action(async (flags: Flags) => {
      const stateDir = await loadStateDir(configSources(flags))
      const update = createLogUpdate(process.stdout)
      // A dumb terminal would show the codes that move the cursor.
      const redraws = process.stdout.isTTY && process.env['TERM'] !== 'dumb'
      await untilStopped(async (signal) => {
        for (;;) {
          const status = await fetchStatus(stateDir)
          if (flags.json === true) print(`${JSON.stringify(status)}\n`)
          else {
            const text = [
              statusText(status, new Date()),
              ...(await rewardCurve(stateDir, process.stdout.columns || 80)),
            ].join('\n')
            if (redraws) update(text)
            else print(`${text}\n`)
          }
          await sleep(TOP_INTERVAL_MS, undefined, { signal })
        }
      })
      if (redraws && flags.json !== true) update.done()
    })
}

/** The reward of all steps in the history as a curve with its axis. */
async function rewardCurve(stateDir: string, columns: number): Promise<string[]> {
  const width = Math.max(20, Math.min(columns, 100) - 16)
  const response = await fetchFromDaemon(stateDir, `/api/history?series=reward_mean&points=${width}`)
  const { tables } = curveSchema.parse(await response.json())
  const cells = tables.flatMap(({ series }) => series['reward_mean']?.mean ?? [])
  const values = cells.filter((value) => value !== null)
  if (values.length === 0) return ['reward     no steps yet']
  const { low, high } = axisBounds(values)
  return drawCurve(values, { width, height: CURVE_HEIGHT, low, high }).map((row, index) => {
    const axis = index === 0 ? high.toFixed(2) : index === CURVE_HEIGHT - 1 ? low.toFixed(2) : ''
    return `${(index === 0 ? 'reward' : '').padEnd(9)}${axis.padStart(5)} ${row}`
  })
}

/** One event as a line. Pure. */
export function eventText(event: DaemonEvent): string {
  switch (event.type) {
    case 'state':
      return `${event.state}: ${event.reason}`
    case 'step':
      return `step ${event.stats.step} of round ${event.round}, reward ${event.stats.rewardMean.toFixed(3)}`
    case 'round':
      return `round ${event.round.round} committed by ${event.round.contributors.length}, adapter ${event.round.adapter_sha3_256.slice(0, 16)}`
    case 'view':
      return `view ${event.epoch} with ${event.members.length} members`
    case 'delta':
      return `delta of round ${event.round}, ${event.bytes} bytes, ${event.verified ? 'verified' : 'not verified'}`
    case 'verdict':
      return `verdict ${event.verdict.result} on round ${event.verdict.round} of ${event.verdict.worker_id}${event.verdict.failed.length === 0 ? '' : `: ${event.verdict.failed.join(', ')}`}`
    case 'rollout':
      return `rollout of step ${event.step}, reward ${event.reward}`
    case 'error':
      return `error ${event.code}: ${event.message}`
  }
}

async function untilStopped(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const signals = listenForStop(() => undefined)
  try {
    await work(signals.signal)
  } catch (error) {
    if (!signals.signal.aborted) throw error
  } finally {
    signals.release()
  }
}

function count(text: string | undefined): number {
  const value = Number(text ?? DEFAULT_LIMIT)
  if (!Number.isInteger(value) || value < 1 || value > 1_000)
    throw new NodeError('USAGE', `--limit is "${text ?? ''}", expected a whole number from 1 to 1000`)
  return value
}

function print(text: string): void {
  process.stdout.write(text)
}
