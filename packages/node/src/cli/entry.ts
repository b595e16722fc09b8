/** Runs the command line and turns its end into an exit code. The only file with effects at import. */
import { errnoOf } from '../errors.ts'
import { asStateError } from '../state/atomic.ts'
import { runCommandLine } from './main.ts'
import { errorLine, presentError } from './present.ts'

// A reader that went away (`gym-node status | head`) is no error: stop writing and end.
process.stdout.on('error', (error: unknown) => {
  if (errnoOf(error) === 'EPIPE') process.exit(0)
  // A full disk under `> file`: a script must not take the rest of what was to be said for nothing.
  const presented = presentError(asStateError(error, 'standard output'))
  process.stderr.write(`${errorLine(presented)}\n`)
  process.exit(presented.exitCode)
})

process.exitCode = await runCommandLine(process.argv.slice(2))
// What writing met is told in a later turn.
await new Promise((done) => setImmediate(done))
// Everything is closed and written (pipes and files are written synchronously), but timers that libp2p forgets keep
// the process for a second more. With a parent's channel the process ends by itself once the last message is out.
if (process.channel === undefined) process.exit()
