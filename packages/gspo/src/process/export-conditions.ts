/** Arguments of this process that a child of the same package needs. */

/** Export conditions only, so that source imports source in the child too. */
export function exportConditions(): string[] {
  return process.execArgv.filter(
    (argument) => argument.startsWith('--conditions=') || argument.startsWith('-C='),
  )
}
