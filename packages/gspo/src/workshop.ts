/** Everything a step works with that no step changes. Types only. */
import type { ResolvedConfig } from './config.ts'
import type { Dataset } from './data/dataset.ts'
import type { DataOrder } from './data/order.ts'
import type { Policy } from './policy-types.ts'
import type { WeightedReward } from './rewards/score.ts'
import type { Tokenizer } from './tokenizer/tokenizer.ts'

/** A loaded model, its data and its rewards. */
export interface Workshop {
  readonly config: ResolvedConfig
  readonly policy: Policy
  readonly tokenizer: Tokenizer
  readonly dataset: Dataset
  readonly order: DataOrder
  readonly rewards: readonly WeightedReward[]
}
