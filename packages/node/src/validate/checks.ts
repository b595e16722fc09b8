/** What every check of a delta answers: its name, whether it holds, and what was seen. */

/** One named check. `ok` is null where it could not be made; `detail` then says why. */
export interface CheckResult<Name extends string = string> {
  readonly name: Name
  readonly ok: boolean | null
  readonly detail: string
}

/** Whether no check failed; checks that could not be made do not count. */
export function isAccepted(checks: readonly CheckResult[]): boolean {
  return checks.every(({ ok }) => ok !== false)
}

/** Builds a result from a fault (null when there is none) and what to say when it holds. */
export function checked<Name extends string>(
  name: Name,
  fault: string | null,
  good: string,
): CheckResult<Name> {
  return { name, ok: fault === null, detail: fault ?? good }
}

/** A check that was not made, and why. */
export function unchecked<Name extends string>(name: Name, why: string): CheckResult<Name> {
  return { name, ok: null, detail: why }
}

/** A number for people: four significant digits. */
export function short(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value)
}
