/** `gym-node delta`: looks into delta files and checks them. */
import { Command } from 'commander'
import { inspectDelta } from '../delta-commands/inspect.ts'
import { verifyDeltaFile } from '../delta-commands/verify.ts'
import { EXIT_CODES } from '../exit-codes.ts'
import type { Outcome } from './main.ts'

/** The command with its subcommands. */
export function deltaCommand(outcome: Outcome): Command {
  const delta = new Command('delta').description('look into delta files and check them')
  delta
    .command('inspect')
    .description('print the metadata and the tensors of a delta file; proves nothing')
    .argument('<file>', 'delta file')
    .option('--json', 'print JSON')
    .action(async (file: string, flags: { json?: boolean }) => {
      process.stdout.write(await inspectDelta(file, flags.json === true))
    })
  delta
    .command('verify')
    .description('check the hash, both signatures and the key binding; exit code 3 when a check fails')
    .argument('<file...>', 'delta files')
    .option('--json', 'print JSON, one object a line')
    .action(async (files: string[], flags: { json?: boolean }) => {
      for (const file of files) {
        const { ok, text } = await verifyDeltaFile(file, flags.json === true)
        process.stdout.write(text)
        if (!ok) outcome.exitCode = EXIT_CODES.check_failed.code
      }
    })
  return delta
}
