/**
 * A wall clock that somebody sets: loaded into a daemon with --import, it jumps at each SIGUSR2, first a year forward,
 * then two years back. Only `Date` jumps, as when an administrator or NTP sets the system's clock.
 */
const YEAR_MS = 31_557_600_000
const JUMPS = [YEAR_MS, -2 * YEAR_MS]
const RealDate = Date
let offset = 0

process.on('SIGUSR2', () => {
  offset += JUMPS.shift() ?? 0
})

globalThis.Date = new Proxy(RealDate, {
  construct: (target, given: unknown[]) =>
    given.length === 0 ? new target(target.now() + offset) : (Reflect.construct(target, given) as object),
  get: (target, name) =>
    name === 'now' ? () => target.now() + offset : (Reflect.get(target, name) as unknown),
})
