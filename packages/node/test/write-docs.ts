/** Writes the generated pages of docs/; run by `npm run docs`. */
import { writeFile } from 'node:fs/promises'
import { format } from 'prettier'
import { generatedPages } from './docs-pages.ts'

for (const [name, text] of generatedPages()) {
  await writeFile(
    new URL(`../../../docs/${name}`, import.meta.url),
    await format(text, { parser: 'markdown', printWidth: 110 }),
  )
}
