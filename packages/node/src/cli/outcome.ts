/** How a command answers with an exit code. No behaviour. */

/** Where commands leave an exit code that is not 0 without an error (a check that said no). */
export interface Outcome {
  exitCode: number
}
