/** What a worker does for validators: hands out files of its rounds, and takes and logs verdicts. */
import type { Ring } from '@gym-node/ring'
import type { Logger } from './log.ts'
import type { Running } from './running.ts'
import { serveAudits } from './validate/audit-service.ts'
import { VerdictBook } from './validate/verdict-book.ts'
import type { AuditVerdict } from './validate/verdict-message.ts'

/** Serves until the returned function is called. */
export async function serveFilesAndVerdicts(running: Running, ring: Ring): Promise<() => Promise<void>> {
  const { config, log } = running.options
  const { validators } = config.audit
  return serveAudits({
    exchange: ring,
    deltas: running.paths.deltas,
    traces: running.paths.traces,
    book: new VerdictBook(config.job, validators),
    validators,
    onVerdict: (verdict) => logVerdict(log, verdict),
  })
}

/** One line for a verdict; a rejected delta is a warning. */
export function logVerdict(log: Logger, verdict: AuditVerdict): void {
  const failed = verdict.checks.filter(({ ok }) => ok === false).map(({ name }) => name)
  const fields = {
    result: verdict.result,
    worker: verdict.worker_id,
    round: verdict.round,
    validator: verdict.validator_id,
    failed,
  }
  if (verdict.result === 'rejected') log.warn(fields, 'verdict')
  else log.info(fields, 'verdict')
}
