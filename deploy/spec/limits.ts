// The largest and smallest of everything in a service spec. Each limit protects something: an object must fit into one
// store transaction, a value must be one that Docker takes, a wait must end within a day.

const dayMs = 24 * 3_600_000;

export const limits = {
  /** Violations that one check reports; a spec with more gets these and their total. */
  violations: 100,
  /** Of the whole spec as text; service and revision travel in one store transaction of at most 1.5 MB. */
  specBytes: 256 * 1024,
  /** A DNS label, RFC 1035 section 2.3.4. */
  nameLength: 63,
  replicas: 10_000,
  labels: 200,
  labelKeyLength: 256,
  labelValueLength: 4096,
  ports: 100,
  /** Where Flotilla's own processes listen on every host: gRPC, HTTP and status, and the ambassadors among themselves. */
  ownPorts: [7400, 7401, 7402, 7443] as readonly number[],
  /** RFC 6335 section 5.1. */
  portNameLength: 15,
  env: 500,
  /** One string of an argv or environment on Linux may have 128 KiB; half of it leaves room for the image's own. */
  textLength: 64 * 1024,
  args: 500,
  mounts: 100,
  pathLength: 4096,
  /** Docker's volume names become directories. */
  volumeNameLength: 255,
  userLength: 255,
  hostnameLength: 63,
  imageLength: 512,
  constraints: 50,
  constraintLength: 512,
  /** Levels of nested spreading; nodes are grouped once per level. */
  preferences: 10,
  affinities: 50,
  /** Either way from 0. */
  priority: 1000,
  dependsOn: 50,
  /** Kinds of countable things per spec. */
  generics: 20,
  genericNameLength: 63,
  genericCount: 1_000_000,
  /** Of the reservation: a container without a limit may use many times what it reserved. */
  autoscalePercent: 1000,
  autoscaleRequests: 1_000_000,
  cronLength: 200,
  /** Ended runs of either kind that a cron job keeps. */
  keptRuns: 100,
  /** Below this a manager's restart alone would skip runs. */
  shortWaitMs: 1000,
  /** Two heartbeats: with less, tasks would be stopped between two of them though nothing is wrong. */
  disconnectMs: 10_000,
  maxReplicasPerNode: 10_000,
  attempts: 1000,
  retries: 1000,
  parallelism: 10_000,
  durationMs: dayMs,
  drainMs: 3_600_000,
  /** Docker's own minimum for a container: 6 MiB. */
  memoryBytesMin: 6 * 1024 ** 2,
  /** 1 PiB. */
  memoryBytesMax: 1024 ** 5,
  /** 0.001 cores. */
  nanoCpusMin: 1_000_000,
  /** 1024 cores. */
  nanoCpusMax: 1_024_000_000_000,
} as const;
