/** The guard against NaN and infinity in adapters and gradients: names the tensor that went wrong. */
import { GspoError } from './errors.ts'
import type { AdapterLayout } from './lora.ts'

/** Throws NON_FINITE with the name of the first adapter tensor that holds a NaN or an infinity. `what` begins the message. */
export function checkFinite(values: Float32Array, layout: AdapterLayout, what: string): void {
  // x * 0 is 0 for every finite x: one pass without a branch an element.
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? 0) * 0
  if (sum === 0) return
  const bad = values.findIndex((value) => !Number.isFinite(value))
  const tensor = layout.tensors.findLast(({ offset }) => offset <= bad)
  throw new GspoError(
    'NON_FINITE',
    `${what} is ${values[bad]} in ${tensor?.name ?? 'an unknown tensor'}, element ${bad - (tensor?.offset ?? 0)}: the step was given up and nothing was changed; lower learning_rate or look at the rewards`,
  )
}
