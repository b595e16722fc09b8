/** `gym-node start`: one daemon in the foreground, as a service would run it. */
import { Command } from 'commander'
import { loadConfig, type ConfigSources } from '../config/load.ts'
import { LIVE_KEYS, takeOverLiveKeys } from '../config/live.ts'
import type { NodeConfig } from '../config/schema.ts'
import type { Logger } from '../log.ts'
import { openParentLink } from '../parent-link.ts'
import { listenForStop, STOP_SIGNALS } from '../signals.ts'
import { addConfigOptions, configSources, type ConfigFlags } from './config-options.ts'
import { presentError } from './present.ts'

const HELP = `
The daemon runs until SIGTERM or Ctrl+C: it finishes or abandons the round, leaves the ring and exits 0; what
was committed is in the state folder, and the next start goes on from there. A second signal ends it at once.
SIGHUP (without a terminal) reads the configuration again: ${LIVE_KEYS.join(', ')}
change at once, all else needs a restart.
`

/** The command. */
export function startCommand(): Command {
  const command = new Command('start')
    .description('run one daemon in the foreground')
    .addHelpText('after', HELP)
  return addConfigOptions(command).action(async (flags: ConfigFlags) => {
    const { createLogger } = await import('../log.ts')
    const { runDaemon } = await import('../daemon.ts')
    const sources = configSources(flags)
    const { config, file } = await loadConfig(sources)
    const log = createLogger(config.log)
    const parentGone = new AbortController()
    const parent = openParentLink(() => parentGone.abort(new Error('the parent process is gone')))
    const onStop = (name: string): void =>
      log.info({ signal: name }, 'stopping; the same signal again ends at once')
    const signals = listenForStop(onStop, process.stdout.isTTY ? STOP_SIGNALS : ['SIGINT', 'SIGTERM'])
    const reload = (): void => void reloadConfig(sources, config, log)
    if (!process.stdout.isTTY) process.on('SIGHUP', reload)
    try {
      await runDaemon({
        config,
        configFile: file,
        log,
        parent,
        stop: AbortSignal.any([signals.signal, parentGone.signal]),
      })
    } catch (error) {
      const { code, message } = presentError(error)
      parent.send({ type: 'failed', code, message })
      log.error({ code, err: log.isLevelEnabled('debug') ? error : undefined }, message)
      throw error
    } finally {
      signals.release()
      process.off('SIGHUP', reload)
    }
  })
}

/** Reads the configuration again; a bad one is reported and the running one stays. Never rejects. */
async function reloadConfig(sources: ConfigSources, running: NodeConfig, log: Logger): Promise<void> {
  try {
    const { config } = await loadConfig(sources)
    const { applied, needRestart } = takeOverLiveKeys(running, config)
    log.level = running.log.level
    log.warn(
      { applied, need_restart: needRestart },
      needRestart.length === 0
        ? 'configuration read again'
        : `configuration read again; ${needRestart.join(', ')} need a restart`,
    )
  } catch (error) {
    const { code, message } = presentError(error)
    log.error({ code }, `configuration not read again: ${message}`)
  }
}
