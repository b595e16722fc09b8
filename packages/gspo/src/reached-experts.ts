/** Which experts of a mixture got a token: an adapter's matrices on the others have no gradient at all, as in PyTorch. */
import type { Feed } from './engine/engine.ts'
import type { AdapterLayout } from './lora.ts'
import type { ModelConfig } from './models/model-config.ts'
import { expertModule } from './models/modules.ts'

/** Experts that the parts of a batch reached; none are known of models without experts. */
export class ReachedExperts {
  private readonly config: ModelConfig
  private readonly modules = new Set<string>()

  constructor(config: ModelConfig) {
    this.config = config
  }

  /** Takes in how many tokens each expert got, layer by layer, as the loss graph counts them. */
  note(counts: Feed | undefined): void {
    if (counts === undefined) return
    for (const [index, module] of this.experts().entries())
      if ((counts.values[index] ?? 0) > 0) this.modules.add(module)
  }

  /** Indices into the layout of the matrices that sit on experts without any token. */
  unreached({ tensors }: AdapterLayout): ReadonlySet<number> {
    const idle = new Set(this.experts().filter((module) => !this.modules.has(module)))
    return new Set(
      tensors.flatMap(({ name }, index) => {
        const [, module = ''] = /^base_model\.model\.(.+\.experts\.\d+)\./.exec(name) ?? []
        return idle.has(module) ? [index] : []
      }),
    )
  }

  /** Modules of all experts, layer by layer. */
  private experts(): string[] {
    const { config } = this
    const { moe } = config
    if (moe === null) return []
    return config.moeLayers.flatMap((isMoe, layer) =>
      isMoe ? Array.from({ length: moe.experts }, (_, expert) => expertModule(config, layer, expert)) : [],
    )
  }
}
