// What steers the cluster, together: made when a tenure begins, and gone before anything else may steer.

import { type Clock, type ClusterError, Lifetime, type Logger, type Rng } from "../lib/mod.js";
import { ensureCluster } from "./api/cluster.js";
import { Autoscaler } from "./autoscale/mod.js";
import { Dispatcher } from "./dispatcher/mod.js";
import { NodeMonitor } from "./nodes/mod.js";
import { Orchestrator } from "./orchestrator/mod.js";
import { Rebalancer } from "./rebalance/mod.js";
import { Scheduler } from "./scheduler/mod.js";
import type { Store } from "./store/mod.js";

export interface ControllersOptions {
  store: Store;
  clusterName: string;
  /** Every manager's gRPC address, the leader's first. */
  managers: () => readonly string[];
  /** Every manager's name. */
  managerNames: () => readonly string[];
  /** What agents are told at the end. */
  farewell: () => ClusterError;
  clock: Clock;
  rng: Rng;
  log: Logger;
}

export class Controllers implements AsyncDisposable {
  readonly dispatcher: Dispatcher;
  readonly #life: Lifetime;

  /** The first manager of a cluster that leads stores the cluster's settings before it does anything else. */
  static async start(options: ControllersOptions): Promise<Controllers> {
    const { store, clusterName, clock, rng } = options;
    await ensureCluster(store, clusterName, clock, rng);
    return new Controllers(options);
  }

  private constructor({ store, managers, managerNames, farewell, clock, rng, log }: ControllersOptions) {
    const parts = { store, clock, rng };
    const life = new Lifetime();
    this.#life = life;
    this.dispatcher = life.use(
      new Dispatcher({ ...parts, log: log.child({ part: "dispatcher" }), managers: managers(), farewell }),
    );
    const orchestrator = life.use(new Orchestrator({ ...parts, log: log.child({ part: "orchestrator" }) }));
    orchestrator.start();
    const scheduler = life.use(new Scheduler({ ...parts, log: log.child({ part: "scheduler" }) }));
    scheduler.start();
    const autoscaler = life.use(
      new Autoscaler({ ...parts, dispatcher: this.dispatcher, log: log.child({ part: "autoscaler" }) }),
    );
    autoscaler.start();
    life.use(new Rebalancer({ ...parts, log: log.child({ part: "rebalancer" }) }));
    // Ends first: sessions that end because this manager does are no news of their nodes.
    life.use(
      new NodeMonitor({ ...parts, dispatcher: this.dispatcher, managerNames, log: log.child({ part: "nodes" }) }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#life[Symbol.asyncDispose]();
  }
}
