/** Writes `docs/METRICS.md` and `docs/status.schema.json` from the code; a test says when they are out of date. */
import { writeFile } from 'node:fs/promises'
import { format } from 'prettier'
import { metricsDocument } from '../src/observe/metrics-doc.ts'
import { statusJsonSchema } from '../src/observe/status-schema.ts'

const DOCS = new URL('../../../docs/', import.meta.url)

/** The files by name, formatted as the repository formats everything. */
export async function observeDocs(): Promise<Record<string, string>> {
  return {
    'METRICS.md': await format(metricsDocument(), { parser: 'markdown', printWidth: 110 }),
    'status.schema.json': await format(JSON.stringify(statusJsonSchema()), {
      parser: 'json',
      printWidth: 110,
    }),
  }
}

if (import.meta.main) {
  for (const [name, text] of Object.entries(await observeDocs())) await writeFile(new URL(name, DOCS), text)
}
