/** What a worker does for validators: hands out files of its rounds, and takes, keeps and tells verdicts. */
import type { Ring } from '@gym-node/ring'
import { messageOf } from './errors.ts'
import type { Running } from './running.ts'
import { VerdictStore } from './state/verdict-store.ts'
import type { VerdictStatus } from './status.ts'
import { serveAudits } from './validate/audit-service.ts'
import { VerdictBook } from './validate/verdict-book.ts'
import type { AuditVerdict } from './validate/verdict-message.ts'

/** The verdicts of this node, those from before a restart told as old ones. */
export async function openVerdicts(running: Running): Promise<{ store: VerdictStore; book: VerdictBook }> {
  const { config, log } = running.options
  const store = await VerdictStore.open(running.paths.root)
  const book = new VerdictBook(config.job, config.role === 'validator' ? null : config.audit.validators)
  const bad = (file: string, error: unknown): void =>
    log.warn({ code: 'STATE_CORRUPT', file }, `passed over a verdict: ${messageOf(error)}`)
  for (const { verdict, signed } of await store.load(bad)) {
    try {
      if (book.take(signed) !== null)
        running.emit({ type: 'verdict', verdict: statusOf(verdict), isOld: true })
    } catch (error) {
      bad(`round ${verdict.round}`, error)
    }
  }
  return { store, book }
}

/** Serves until the returned function is called. */
export async function serveFilesAndVerdicts(
  running: Running,
  ring: Ring,
  { store, book }: { store: VerdictStore; book: VerdictBook },
): Promise<() => Promise<void>> {
  return serveAudits({
    exchange: ring,
    deltas: running.paths.deltas,
    traces: running.paths.traces,
    book,
    validators: running.options.config.audit.validators,
    onVerdict: async (verdict, signed) => {
      await store.keep({ verdict, signed })
      running.emit({ type: 'verdict', verdict: statusOf(verdict), isOld: false })
    },
  })
}

/** What log, status and history say of a verdict. */
export function statusOf(verdict: AuditVerdict): VerdictStatus {
  return {
    round: verdict.round,
    worker_id: verdict.worker_id,
    validator_id: verdict.validator_id,
    result: verdict.result,
    failed: verdict.checks.filter(({ ok }) => ok === false).map(({ name }) => name),
  }
}
