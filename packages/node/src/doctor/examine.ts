/** What `doctor` finds out about a machine: one finding a subject, with what to do. Changes nothing. */
import type { NodeConfig } from '../config/schema.ts'
import { isAlive, readDaemonFile } from '../state/daemon-file.ts'
import { statePaths } from '../state/folder.ts'
import { examineClock } from './clock.ts'
import type { Finding } from './finding.ts'
import { examineFolder } from './folder.ts'
import { examineInputs } from './inputs.ts'
import { examineHardware } from './machine.ts'
import { examineNetwork, type RunningDaemon } from './network.ts'

/** Looks at everything; `config` is null when it could not be read, and what depends on it is left out. */
export async function examineMachine(config: NodeConfig | null): Promise<Finding[]> {
  const machine = await examineHardware()
  if (config === null) return machine
  return [
    ...machine,
    ...(await examineInputs(config)),
    ...(await examineFolder(config)),
    ...(await examineNetwork(config, await runningDaemon(config.state_dir))),
    await examineClock(),
  ]
}

/** The daemon that has this state folder now, or null. */
async function runningDaemon(stateDir: string): Promise<RunningDaemon | null> {
  const daemon = await readDaemonFile(statePaths(stateDir).daemon).catch(() => null) // none, or none that can be read
  return daemon !== null && isAlive(daemon.pid) ? daemon : null
}
