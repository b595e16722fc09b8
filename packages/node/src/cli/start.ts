/** `gym-node start`: one daemon in the foreground, as a service would run it. */
import { Command } from 'commander'
import { loadConfig } from '../config/load.ts'
import { runDaemon } from '../daemon.ts'
import { createLogger } from '../log.ts'
import { openParentLink } from '../parent-link.ts'
import { listenForStop } from '../signals.ts'
import { addConfigOptions, configSources, type ConfigFlags } from './config-options.ts'
import { presentError } from './present.ts'

const HELP = `
The daemon runs until SIGTERM or Ctrl+C: it finishes or abandons the round, leaves the ring and exits 0; what
was committed is in the state folder, and the next start goes on from there. A second signal ends it at once.
`

/** The command. */
export function startCommand(): Command {
  const command = new Command('start')
    .description('run one daemon in the foreground')
    .addHelpText('after', HELP)
  return addConfigOptions(command).action(async (flags: ConfigFlags) => {
    const { config, file } = await loadConfig(configSources(flags))
    const log = createLogger(config.log)
    const parentGone = new AbortController()
    const parent = openParentLink(() => parentGone.abort(new Error('the parent process is gone')))
    const signals = listenForStop((name) =>
      log.info({ signal: name }, 'stopping; the same signal again ends at once'),
    )
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
    }
  })
}
