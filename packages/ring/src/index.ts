/** The public surface of the ring. */
export { RingError, type RingErrorCode } from './errors.ts'
export type {
  CarrierChoice,
  Contribution,
  Integrity,
  MemberStatus,
  RequestHandler,
  RequestLimits,
  RequestOptions,
  Ring,
  RingCounters,
  RingEvents,
  RingLogger,
  RingOptions,
  RingPhase,
  RingStatus,
  RoundResult,
  StateProvider,
  View,
  ViewStore,
  WireType,
} from './types.ts'
export { createRing } from './create-ring.ts'
export type { BookStore, NetworkOptions, NetworkStatus } from './net/network-types.ts'
export { createRelay, type Relay, type RelayOptions, type RelayStatus } from './reach/relay-server.ts'
export { checkSwarmKey, createSwarmKey } from './net/swarm-key.ts'
export { isPrivateHost } from './reach/addresses.ts'
export { REACHABILITIES, type Reachability, type ReachVerdict } from './reach/reachability.ts'
export { DIAL_FAILURES, NET_LIMITS, PEER_SOURCES } from './net/net-counters.ts'
export { DEFAULT_LIMITS, type RingLimits } from './defaults.ts'
export { DEFAULT_RELAY_LIMITS, type RelayLimits } from './net/defaults.ts'
export { AllReduceBench, benchAllReduce, type BenchOptions, type BenchReport } from './bench/all-reduce.ts'
