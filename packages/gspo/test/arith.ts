/** Where the demo model and its data lie; shared by tests. */
import { fileURLToPath } from 'node:url'

const at = (name: string): string =>
  fileURLToPath(new URL(`../../node/demo/arith-model/${name}`, import.meta.url))

/** The demo model's folder and files. */
export const ARITH = { model: at('.'), train: at('train.jsonl'), test: at('test.jsonl') } as const
