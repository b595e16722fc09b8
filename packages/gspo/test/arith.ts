/** Where the demo model, its data and the checkpoint of the golden numbers lie; shared by tests. */
import { fileURLToPath } from 'node:url'

const at = (name: string): string =>
  fileURLToPath(new URL(`../../node/demo/arith-model/${name}`, import.meta.url))

/** The demo model's folder and files. */
export const ARITH = { model: at('.'), train: at('train.jsonl'), test: at('test.jsonl') } as const

/** The checkpoint of the same shape that PyTorch trained; golden arith and TRL's runs belong to it. */
export const GOLDEN_ARITH: string = fileURLToPath(
  new URL('../../../test/golden/arith/model', import.meta.url),
)
