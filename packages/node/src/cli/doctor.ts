/** `gym-node doctor`: looks at the machine and the configuration, and says for each finding what to do about it. */
import { Command } from 'commander'
import { loadConfig } from '../config/load.ts'
import type { Finding } from '../doctor/finding.ts'
import { EXIT_CODES } from '../exit-codes.ts'
import { addConfigOptions, configSources, type ConfigFlags } from './config-options.ts'
import type { Outcome } from './outcome.ts'

const MARKS = { ok: 'ok   ', warning: 'warn ', fault: 'FAULT' } as const

/** The command. */
export function doctorCommand(outcome: Outcome): Command {
  const command = new Command('doctor').description(
    'check this machine and the configuration; exit code 3 when something is at fault',
  )
  return addConfigOptions(command)
    .option('--json', 'print JSON')
    .action(async (flags: ConfigFlags & { json?: boolean }) => {
      const { examineMachine } = await import('../doctor/examine.ts')
      const { findings, config } = await configuration(flags)
      const all = [...findings, ...(await examineMachine(config))]
      if (all.some(({ verdict }) => verdict === 'fault')) outcome.exitCode = EXIT_CODES.check_failed.code
      process.stdout.write(flags.json === true ? `${JSON.stringify(all, null, 2)}\n` : doctorText(all))
    })
}

/** The findings as lines. Pure. */
export function doctorText(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ verdict, what, seen, advice }) => [
    `${MARKS[verdict]}  ${what.padEnd(13)} ${seen}`,
    ...(advice === '' ? [] : [`${' '.repeat(21)}-> ${advice}`]),
  ])
  const faults = findings.filter(({ verdict }) => verdict === 'fault').length
  return `${lines.join('\n')}\n\n${faults === 0 ? 'nothing is at fault' : `${faults} ${faults === 1 ? 'fault' : 'faults'}`}\n`
}

/** The configuration, or the finding that there is none that can be used. */
async function configuration(
  flags: ConfigFlags,
): Promise<{ findings: Finding[]; config: Awaited<ReturnType<typeof loadConfig>>['config'] | null }> {
  try {
    const { config, file } = await loadConfig(configSources(flags))
    return {
      config,
      findings: [
        { verdict: 'ok', what: 'configuration', seen: file ?? 'defaults, environment and flags', advice: '' },
      ],
    }
  } catch (error) {
    const seen = error instanceof Error ? error.message : String(error)
    return {
      config: null,
      findings: [
        {
          verdict: 'fault',
          what: 'configuration',
          seen,
          advice: 'correct it, then run doctor again: model, ports and folders could not be checked',
        },
      ],
    }
  }
}
