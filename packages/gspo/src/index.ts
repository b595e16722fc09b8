/** The public surface of @gym-node/gspo. */
export { gspoConfigSchema, resolveConfig, rewardConfigSchema, withoutAliases } from './config.ts'
export type { GSPOConfig, ResolvedConfig, RewardConfig } from './config.ts'
export { examineEngine } from './engine/examine.ts'
export type { EngineSettings } from './engine/examine.ts'
export { examineDataset, examineModel, examineRewards } from './examine-inputs.ts'
export type { DataNote, ModelNote } from './examine-inputs.ts'
export type { EngineNote } from './engine/engine.ts'
export { GspoError } from './errors.ts'
export type { GspoErrorCode } from './errors.ts'
export { GSPOTrainer } from './gspo-trainer.ts'
export { createTrainer } from './trainer.ts'
export { replayRound } from './replay-round.ts'
export type { ReplayedRound, ReplayRoundInput } from './replay-round.ts'
export { spawnTrainer } from './process/spawn.ts'
export type { SpawnOptions } from './process/spawn.ts'
export type {
  EvaluateOptions,
  Evaluation,
  ReplayedStep,
  ReplayOptions,
  StepRecord,
  StepRewardFailure,
  StepSample,
  StepStats,
  Trainer,
  TrainerInfo,
} from './trainer-types.ts'
export { decodeTrace, encodeTrace, TraceEncoder, TraceScanner } from './trace/codec.ts'
export type { DecodedTrace, TraceHeader, TraceLimits } from './trace/codec.ts'
export type { StepTrace, TracedCompletion, TracedGroup } from './trace/types.ts'
export type {
  BatchReward,
  RewardCall,
  RewardModule,
  RewardSample,
  SampleReward,
  Score,
} from './rewards/types.ts'
export { openAdapterFolder, readAdapterFolder, writeAdapterFolder } from './peft/adapter-folder.ts'
export type { AdapterDescription, AdapterFolder, AdapterValues } from './peft/adapter-folder.ts'
export { decodeState, encodeState } from './checkpoint/state.ts'
export type { TrainerState } from './checkpoint/state.ts'
export {
  decodeSafetensors,
  encodeSafetensors,
  openSafetensors,
  readSafetensorsHeader,
} from './weights/safetensors.ts'
export type { SafetensorsFile, SafetensorsHeader, TensorEntry, TensorValue } from './weights/safetensors.ts'
export { adapterLayout, LORA_TARGETS, loraScale, loraTargetOf } from './lora.ts'
export { loadPolicy } from './policy.ts'
export type { AdapterLayout, AdapterTensor, LoraConfig, LoraTarget } from './lora.ts'
export { ENGINE_NAMES } from './policy-types.ts'
export type { DecodingDemand } from './decoding-memory.ts'
export type { EngineName, Policy, PolicyOptions } from './policy-types.ts'
export type { ChatMessage, DataRow } from './data/dataset.ts'
export { modelSha256 } from './model-hash.ts'
export { loadDataset } from './data/dataset.ts'
export type { Dataset } from './data/dataset.ts'
export { loadTokenizer } from './tokenizer/tokenizer.ts'
export type { Tokenizer } from './tokenizer/tokenizer.ts'
export { buildTokenBatch } from './rollout/token-batch.ts'
export type { Sequence } from './rollout/token-batch.ts'
export { benchStep } from './bench/bench-step.ts'
export type { BenchStepOptions, BenchStepReport } from './bench/bench-step.ts'
export { runSft } from './sft/run-sft.ts'
export type { SftOptions } from './sft/run-sft.ts'
export type { SftProgress } from './sft/state.ts'
export { resolveSftConfig, sftConfigSchema } from './sft/config.ts'
export type { SftConfig } from './sft/config.ts'
