/**
 * Every metric that the daemon exports, in one list: the registry, `docs/METRICS.md` and the check of the
 * Grafana dashboards are all made from it. A peer id is never a label.
 */

/** One metric family. Histograms carry their buckets' upper bounds. */
export interface MetricSpec {
  readonly name: string
  readonly type: 'gauge' | 'counter' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
  readonly buckets?: readonly number[]
}

const STEP_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const ROUND_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]

function gauge(name: string, help: string, labels: readonly string[] = []): MetricSpec {
  return { name, type: 'gauge', help, labels }
}

function counter(name: string, help: string, labels: readonly string[] = []): MetricSpec {
  return { name, type: 'counter', help, labels }
}

/** The catalogue, by the name that the code uses. */
export const METRICS = {
  info: gauge('gym_node_build_info', 'Always 1; version, role and engine are in the labels.', [
    'version',
    'role',
    'engine',
  ]),
  state: gauge('gym_node_state_info', '1 for the state that the daemon is in, 0 for the others.', ['state']),
  progressAge: gauge(
    'gym_node_progress_age_seconds',
    'Time since the last local step, commit, verdict or entry into training; 0 before the first.',
  ),
  startTime: gauge('gym_node_start_time_seconds', 'When the daemon started, in seconds since 1970.'),
  errors: counter('gym_node_errors_total', 'Errors that the daemon reported, by code.', ['code']),
  deltas: counter(
    'gym_node_deltas_total',
    'Signed DELTA files written, by the outcome of reading them back.',
    ['verified'],
  ),
  deltaBytes: counter('gym_node_delta_bytes_total', 'Bytes of the DELTA files written.'),
  deltaError: gauge(
    'gym_node_delta_loss_ratio',
    'Norm of what the last delta lost by its dtype, and the next one sends, by the norm of what was to be sent.',
  ),
  verdicts: counter('gym_node_verdicts_total', 'Verdicts of validators heard, on any worker, by result.', [
    'result',
  ]),
  observeFaults: counter(
    'gym_node_observe_faults_total',
    'Faults of observation itself (training goes on), by part.',
    ['part'],
  ),
  streamClients: gauge('gym_node_stream_clients_count', 'Clients that listen to /events now.'),
  streamDrops: counter(
    'gym_node_stream_drops_total',
    'Clients of /events cut off because they read too slowly.',
  ),
  httpRequests: counter('gym_node_http_requests_total', 'HTTP requests answered, by status class.', [
    'status',
  ]),

  steps: counter('gym_gspo_steps_total', 'Local training steps finished since the daemon started.'),
  stepIndex: gauge('gym_gspo_step_index', 'Number of the last finished step; survives restarts.'),
  stepSeconds: {
    name: 'gym_gspo_step_duration_seconds',
    type: 'histogram',
    help: 'Duration of a step and of its phases.',
    labels: ['phase'],
    buckets: STEP_BUCKETS,
  },
  reward: gauge('gym_gspo_reward_mean', 'Mean reward of the last step.'),
  rewardStd: gauge('gym_gspo_reward_stddev', 'Standard deviation of the rewards of the last step.'),
  rewardComponent: gauge(
    'gym_gspo_reward_component_mean',
    'Mean score of each configured reward function in the last step.',
    ['reward'],
  ),
  loss: gauge('gym_gspo_loss_mean', 'Loss of the last step.'),
  clipRatio: gauge(
    'gym_gspo_clip_ratio',
    'Share of importance ratios that were clipped in the last step, by side.',
    ['side'],
  ),
  importanceRatio: gauge(
    'gym_gspo_importance_ratio',
    'Mean importance ratio of the last step; 1 when the batch is on-policy.',
  ),
  kl: gauge('gym_gspo_kl_nats', 'KL divergence to the base model in the last step.'),
  entropy: gauge('gym_gspo_entropy_nats', 'Mean entropy of the next-token distribution in the last step.'),
  gradientNorm: gauge('gym_gspo_gradient_norm', 'Norm of the gradient before clipping in the last step.'),
  learningRate: gauge('gym_gspo_learning_rate', 'Learning rate of the last step.'),
  zeroVariance: gauge(
    'gym_gspo_zero_variance_ratio',
    'Share of groups whose rewards were all equal and taught nothing.',
  ),
  completionLength: gauge(
    'gym_gspo_completion_length_tokens',
    'Mean length of the completions of the last step.',
  ),
  truncated: gauge(
    'gym_gspo_truncated_ratio',
    'Share of completions cut at the largest length in the last step.',
  ),
  throughput: gauge('gym_gspo_throughput_tokens_per_second', 'Tokens sampled per second in the last step.'),
  peakMemory: gauge('gym_gspo_peak_memory_bytes', 'Largest resident memory of the engine so far.'),
  promptTokens: counter('gym_gspo_prompt_tokens_total', 'Prompt tokens read since the daemon started.'),
  generatedTokens: counter('gym_gspo_generated_tokens_total', 'Tokens sampled since the daemon started.'),
  groups: counter('gym_gspo_groups_total', 'Groups of completions sampled since the daemon started.'),
  completions: counter('gym_gspo_completions_total', 'Completions sampled since the daemon started.'),
  unscorable: counter(
    'gym_gspo_unscorable_completions_total',
    'Completions that no reward function could score.',
  ),
  modelParameters: gauge('gym_gspo_model_parameters_count', 'Parameters of the base model.'),

  members: gauge('gym_ring_members_count', 'Members of the view, by state as this daemon sees them.', [
    'state',
  ]),
  epoch: gauge('gym_ring_epoch_index', 'Epoch of the committed view; 0 before the first.'),
  roundIndex: gauge('gym_ring_round_index', 'Number of the last committed round; survives restarts.'),
  rounds: counter('gym_ring_rounds_total', 'All-reduce rounds committed since the daemon started.'),
  roundAttempts: counter(
    'gym_ring_round_attempts_total',
    'Attempts that the committed rounds took; above rounds_total when peers fail.',
  ),
  roundSeconds: {
    name: 'gym_ring_round_duration_seconds',
    type: 'histogram',
    help: 'Duration of a committed all-reduce round, failed attempts included.',
    labels: [],
    buckets: ROUND_BUCKETS,
  },
  sentBytes: counter('gym_ring_sent_bytes_total', 'Bytes sent to ring neighbours.'),
  receivedBytes: counter('gym_ring_received_bytes_total', 'Bytes received from ring neighbours.'),
  viewChanges: counter('gym_ring_view_changes_total', 'Views committed since the daemon started.'),
  framesRejected: counter('gym_ring_frames_rejected_total', 'Frames from peers that were refused.'),
  rejected: counter('gym_ring_rejected_total', 'Frames and messages from peers that were refused, by code.', [
    'code',
  ]),
  reachability: gauge(
    'gym_ring_reachability_info',
    '1 for the verdict on whether others can dial this node, 0 for the others.',
    ['state'],
  ),
  reservations: gauge('gym_ring_relay_places_count', 'Relays that hold a place for this node.'),
  connections: gauge('gym_ring_connections_count', 'Open connections, by the way they take.', ['path']),
  holePunches: counter('gym_ring_hole_punches_total', 'Relayed connections that became direct.'),
  peersFound: counter('gym_ring_peers_found_total', 'Peers met, by how they were first heard of.', [
    'source',
  ]),
  dials: counter('gym_ring_dials_total', 'Dials begun by this node.'),
  dialFailures: counter('gym_ring_dial_failures_total', 'Dials that failed, by reason.', ['reason']),
  limitsHit: counter('gym_ring_limits_hit_total', 'Peers that ran into a limit, by its name.', ['limit']),
} as const satisfies Record<string, MetricSpec>

/** Key of a metric in the catalogue. */
export type MetricKey = keyof typeof METRICS

/** The catalogue as a list, in its order. */
export const METRIC_LIST: readonly MetricSpec[] = Object.values(METRICS)
