/** Runs the command line and turns its end into an exit code. The only file with effects at import. */
import { errnoOf } from '../errors.ts'
import { runCommandLine } from './main.ts'

// A reader that went away (`gym-node status | head`) is no error: stop writing and end.
process.stdout.on('error', (error: unknown) => {
  if (errnoOf(error) === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await runCommandLine(process.argv.slice(2))
