/** Every default and limit of this package, with its unit and its reason. */

/** Largest safetensors header in bytes: the format's own limit (100 MB), so that a bad length never allocates more. */
export const MAX_SAFETENSORS_HEADER_BYTES = 100_000_000

/** Threads an engine uses when none are asked for: two, the smallest machine this project is meant for. */
export const DEFAULT_THREADS = 2

/** Completions sampled for one prompt (TRL's num_generations): the smallest group with a usable mean. */
export const DEFAULT_GROUP_SIZE = 8

/** Prompts in one rollout: small, so that a first step is quick on any machine. */
export const DEFAULT_PROMPTS_PER_STEP = 8

/** Longest completion in tokens; TRL's default. */
export const DEFAULT_MAX_COMPLETION_LENGTH = 256

/** Learning rate of AdamW; TRL's default for GRPO. LoRA usually wants 10 to 100 times more. */
export const DEFAULT_LEARNING_RATE = 1e-6

/** Clip range below and above a sequence ratio of 1 (GSPO, arXiv 2507.18071, section 5.1). */
export const DEFAULT_EPSILON = 3e-4
/** See DEFAULT_EPSILON. */
export const DEFAULT_EPSILON_HIGH = 4e-4

/** Rank and alpha of the LoRA adapter: alpha = 2 rank, the most used setting. */
export const DEFAULT_LORA_RANK = 16
/** See DEFAULT_LORA_RANK. */
export const DEFAULT_LORA_ALPHA = 32

/**
 * Tokens (rows x padded length) handed to the engine at once, between two looks at the cancel signal; the engine cuts
 * them further by its memory, and computes a group's shared prompt once.
 */
export const DEFAULT_MICRO_BATCH_TOKENS = 8192

/** Sequences decoded at once: bounds the KV cache; a larger rollout runs in several batches. */
export const DEFAULT_MAX_DECODING_ROWS = 256

/** Deadline of one call of a reward function, milliseconds: long enough for a judge model, short enough to notice a hang. */
export const DEFAULT_REWARD_TIMEOUT_MS = 60_000

/**
 * Processor time that one completion may take of a pattern or a schema, milliseconds: hundreds of times what an honest
 * one takes, so that no machine's speed decides whether a completion has a score.
 */
export const DEFAULT_SAMPLE_TIMEOUT_MS = 200

/** Times a sample is tried whose time went to other processes: a stopped machine must not cost it its score. */
export const SAMPLE_TIME_TRIES = 5

/** How long a reward module may take to answer that it stops, milliseconds; one that is silent holds its thread and is ended. */
export const REWARD_STOP_GRACE_MS = 500

/** Samples in one request to a reward endpoint. */
export const DEFAULT_REWARD_BATCH_SIZE = 64

/** Times a failed HTTP request is tried again before its samples count as unscorable. */
export const DEFAULT_HTTP_RETRIES = 3

/** First wait before an HTTP retry, milliseconds; doubles each time. */
export const HTTP_RETRY_BASE_MS = 200

/** Longest wait before an HTTP retry, milliseconds: a server that restarts is back within it. */
export const HTTP_RETRY_MAX_MS = 30_000

/** Longest time that Node's timers take, milliseconds. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** Largest response read from a reward or rollout server, bytes: 64 completions of a few kB each, with room. */
export const MAX_HTTP_RESPONSE_BYTES = 64 * 1024 * 1024

/** Kept output of a child process, bytes, to show when it dies. */
export const CHILD_OUTPUT_TAIL_BYTES = 8192

/** How long a child may take to stop by itself before it is killed, milliseconds: a few engine calls of a large model. */
export const CHILD_STOP_GRACE_MS = 15_000

/** How long a child may take to load the model before spawning counts as failed, milliseconds: a 30 GB model from disk. */
export const CHILD_START_TIMEOUT_MS = 600_000

/** Largest number of failed rewards described in one step's record. */
export const MAX_REPORTED_REWARD_FAILURES = 16

/** Numbers of a row that may share a scale in 4-bit mode: what the engine's kernels take. */
export const QUANT_BLOCKS = [32, 64, 128] as const

/** Block of 4-bit mode: 4.25 bits a weight; decodes 1.4 times as fast as blocks of 32, whose error is an eighth less. */
export const DEFAULT_QUANT_BLOCK = 128

/** Tokens by which a KV cache grows: larger blocks are copied less often, smaller ones leave less unused. */
export const CACHE_BLOCK_TOKENS = 16

/**
 * Multiplications of a layer's products that take as long as reading one number of keys or values for one row: measured
 * with 42 million parameters in 4 bits and two threads (0.3 ns beside 0.015); half as many in float32.
 */
export const CACHE_READ_PRODUCTS = 20

/** Logits that exist at once in training, at most: 32 MB of float32; larger parts of the vocabulary are not faster. */
export const HEAD_LOGITS = 1 << 23

/** Share of a memory limit for logits, their probabilities and a product on the way. */
export const HEAD_SHARE = 1 / 32

/** Fewest tokens of the vocabulary that the head scores at once: a smaller product costs more than it saves. */
export const HEAD_LEAST_PART = 1024

/** Activations of one training pass without a memory limit, bytes: what a machine with 8 GB has to spare. */
export const DEFAULT_ACTIVATION_BYTES = 4 * 2 ** 30

/** What activations take beside what the formula counts: measured with ONNX Runtime on a 0.6B shape, 84k numbers to 42k. */
export const ACTIVATION_COPIES = 2

/** Tokens from which a pass makes good use of the processor: smaller parts read all weights for little work. */
export const EFFICIENT_TOKENS = 256

/** Share of a memory limit that is not planned with: what has been freed and not yet given back, and errors of estimates. */
export const MEMORY_RESERVE = 0.1

/** What the process takes without any model, bytes: Node, the engine's libraries and its first buffers. */
export const PROCESS_BYTES = 300 * 2 ** 20

/**
 * Parameters from which `auto` takes a GPU: below, launching the few hundred kernels of a decoding step (some 5
 * microseconds each) takes longer than the processor's whole step.
 */
export const GPU_LEAST_PARAMETERS = 50_000_000

/** How long WebGPU may take to compute one product before it counts as broken, milliseconds: shaders compile first. */
export const GPU_PROBE_TIMEOUT_MS = 30_000

/** How long the driver's own tool may take to list GPUs, milliseconds: a cold driver needs seconds. */
export const GPU_QUERY_TIMEOUT_MS = 10_000

/** Most tokens that run through the training graph at once; a batch with more runs in parts of whole groups or rows. */
export const MICRO_BATCH_TOKENS = 4096

/** Largest trace file a reader takes, bytes: a round of 10 million sampled tokens. */
export const MAX_TRACE_BYTES = 256 * 1024 * 1024

/** Most steps in one trace file: a round has tens. */
export const MAX_TRACE_STEPS = 100_000

/** Most groups and completions in one trace file: each is an object of some 300 bytes to a reader, 3 bytes to a liar. */
export const MAX_TRACE_SAMPLES = 1_000_000

/** Most reward components of one completion in a trace: jobs have one to ten. */
export const MAX_TRACE_COMPONENTS = 256

/**
 * How far, in probability, a draw may lie outside its token's interval when it is repeated: one pass over a whole
 * sequence and the cache's many steps differ by 1e-6, other engines by 1e-5.
 */
export const DRAW_TOLERANCE = 1e-4

/** The same where frozen weights have 4 bits: decoding rounds activations too, which moves logprobs by hundredths. */
export const DRAW_TOLERANCE_4BIT = 0.02

/** How long the output of a dead child is waited for, milliseconds: it is already in the pipe. */
export const CHILD_DRAIN_MS = 1000

/** Requests that a rollout server gets at once: enough to fill its batch. */
export const DEFAULT_ROLLOUT_CONCURRENCY = 16

/** Deadline of one completion request, milliseconds: a long answer of a large model. */
export const DEFAULT_ROLLOUT_TIMEOUT_MS = 300_000

/** Vocabulary from which the engine computes the softmax of sampling, tokens: below it the call costs more than it saves. */
export const ENGINE_SOFTMAX_VOCABULARY = 4096

/** Prepared weights that the cache folder keeps, bytes: some models of each format; the least recently used go first. */
export const WEIGHT_CACHE_BYTES = 32 * 2 ** 30

/** Prepared weights used within this time are not removed, milliseconds; whoever uses them says so four times as often. */
export const WEIGHT_CACHE_LEASE_MS = 2 * 3_600_000

/** How long a file may stand still before its maker counts as dead, milliseconds: far longer than one chunk takes. */
export const WEIGHT_CACHE_STALE_MS = 60_000

/** Wait between two looks at a file that another process is making, milliseconds. */
export const WEIGHT_CACHE_POLL_MS = 200

/**
 * Products with experts' matrices in a graph that ONNX Runtime opens in one piece: opening takes about 1.4 microseconds
 * times the square of the nodes (`bench/experts.ts`), and one piece costs a little less at every run than stages do.
 */
export const LARGEST_SESSION_EXPERTS = 1000

/** Nodes of a stage where there are more: about a tenth of a second each to open. */
export const STAGE_NODES = 400
