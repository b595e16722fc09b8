/** Every default and limit of the daemon, with its unit and its reason. */

/** TCP port of the ring: one known number, so that a firewall rule can be written down. */
export const DEFAULT_RING_PORT = 4160

/** TCP port of the status server; next to the ports Prometheus exporters use (9100-9999). */
export const DEFAULT_HTTP_PORT = 9464

/** Local steps between two rounds: deltas of more steps drift apart, fewer cost more traffic. */
export const DEFAULT_AGGREGATE_INTERVAL = 4

/** Silence after which a peer counts as lost, ms: several heartbeats, short against a round. */
export const DEFAULT_PEER_TIMEOUT_MS = 5_000

/**
 * How long a stopping daemon waits for an all-reduce in progress to commit, ms; then it abandons the round, and the
 * others run it again. An exchange takes less; mostly the wait is for members that still train, which nobody stopping
 * should wait for. With the second and a half that leaving may take, a stop stays under three seconds.
 */
export const STOP_GRACE_MS = 1_000

/** How long a daemon that has reached `train.rounds` stays so that the others can commit the last round too, ms. */
export const LAST_ROUND_LINGER_MS = 10_000

/** How often the lingering daemon looks at its neighbours' rounds, ms. */
export const LINGER_POLL_MS = 50

/** A wait for the ring longer than this is shown as a state, ms: between two rounds of a healthy ring it is shorter. */
export const WAITING_SHOWN_MS = 2_000

/** How often the reason of a wait is looked at again, ms. */
export const WAITING_REFRESH_MS = 5_000

/** A node that waits for its ring counts as ready this long after its last progress, ms: a view change takes seconds. */
export const READY_LULL_MS = 60_000

/** A node that trains without a step or commit for this long is not ready, ms: longer than the step of a large model. */
export const READY_STALL_MS = 1_800_000

/** Signals closer than this count as one, ms: a terminal and npm both pass Ctrl+C on. */
export const SIGNAL_DEBOUNCE_MS = 300

/** Pause before a round is tried again after a lost peer or a timeout, ms. */
export const RETRY_PAUSE_MS = 250

/** Deadline of a request to the status server of a daemon on this machine, ms. */
export const STATUS_TIMEOUT_MS = 3_000

/** Sample rollouts put into the history at each step: enough to read, few against a batch. */
export const ROLLOUTS_SHOWN_PER_STEP = 3

/** Levenshtein distance up to which an unknown key gets a suggestion, as a share of its length. */
export const SUGGESTION_SHARE = 0.5

/** Largest configuration file, bytes: a configuration is small; anything else is the wrong file. */
export const MAX_CONFIG_BYTES = 1_048_576

/** Largest delta file that the command line reads, bytes (64 GiB holds a full update of a 30 B model in bf16). */
export const MAX_DELTA_FILE_BYTES = 68_719_476_736

/** Times the engine is started again after it died, before the daemon gives up; reset by a committed round. */
export const ENGINE_RESTARTS = 3

/** Deadline of the demo ring's daemons to stop after a signal before they are killed, ms. */
export const CHILD_STOP_MS = 15_000

/** Time between two frames of the live view, ms: smooth to the eye, nothing for the CPU. */
export const FRAME_MS = 120

/** Rounds whose traces are kept: enough for a validator to ask, small against the deltas. */
export const DEFAULT_TRACE_KEEP_ROUNDS = 16

/** Rounds of `gym-node ring` when none are asked for: under two minutes on two cores, with the evaluation. */
export const DEMO_ROUNDS = 108

/** Local steps in a round of the demo. */
export const DEMO_AGGREGATE_INTERVAL = 2

/** Completions that the whole demo ring samples in one step of each node; divided among the nodes. */
export const DEMO_COMPLETIONS_PER_STEP = 120

/**
 * Section `train` of the demo. Answers have one to three digits and an end token. Three nodes with these numbers
 * bring held-out sampled accuracy from 0.35 to 0.57 or more in 25,920 completions (packages/gspo/README.md).
 */
export const DEMO_TRAIN = {
  max_completion_length: 6,
  group_size: 8,
  lora_rank: 16,
  lora_alpha: 32,
  learning_rate: 1e-3,
  adam_beta2: 0.99,
  beta: 0,
} as const

/** Silence after a step or round, with a daemon lost, after which the launcher gives up on the others, ms. */
export const ROUND_STALL_MS = 60_000

/** Times each held-out prompt is sampled for an accuracy: 3 x 1000 prompts leave a standard error of 0.9 %. */
export const SAMPLED_EVALUATION_PASSES = 3

/** Deadline of one `systemd-notify`, ms. */
export const NOTIFY_TIMEOUT_MS = 5_000

/** Time between two pictures of `gym-node top`, ms. */
export const TOP_INTERVAL_MS = 1_000

/** Memory below which `doctor` warns, bytes. */
export const LEAST_MEMORY_BYTES = 4e9

/** Free disk below which `doctor` warns, bytes. */
export const LEAST_DISK_BYTES = 1e9

/** Deviation of the clock at which `doctor` warns, ms: deltas carry their time in seconds. */
export const CLOCK_TOLERANCE_MS = 2_000

/** How long `doctor` waits for a time server, ms. */
export const CLOCK_TIMEOUT_MS = 1_500

/** With overlap: how long a round is held back for a newcomer at the door, and how soon again for the same one. */
export const DOOR_WAIT_MS = 2_000
export const DOOR_AGAIN_MS = 60_000

/** How long doctor waits for a bootstrap address to accept a connection: three tries of TCP, 1 s and 2 s apart. */
export const BOOTSTRAP_TIMEOUT_MS = 4_000
