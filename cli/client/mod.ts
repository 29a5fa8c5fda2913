// The managers' API as the commands use it: plain arguments in, messages out.

import type { Cli } from "../command/leaf.js";
import {
  type BackupPart,
  type ClusterResponse,
  type ClusterStatus,
  type ControlService as Service,
  ControlService,
  type ExplainTaskResponse,
  type ListTasksResponse,
  type ManagerStatus,
  type NodeState,
  type PlanServiceResponse,
  type RebalanceResponse,
  type ServiceLogsRequest,
  type ServiceLogsResponse,
  type ServiceResponse,
  type ServiceState,
  type UpdateClusterRequest,
  type UpdateNodeRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { Cluster, Event, Rollout, ServiceSpec } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { ClusterError } from "../../lib/errors.js";
import { managersOf } from "../managers.js";
import { plain } from "../screen/text.js";
import { Caller, type CallerOptions, type Managers, isAfterLoss } from "./api.js";

export type { Managers } from "./api.js";

export class ControlApi implements Disposable {
  readonly #caller: Caller;

  constructor(options: CallerOptions) {
    this.#caller = new Caller(options);
  }

  get addresses(): readonly string[] {
    return this.#caller.addresses;
  }

  [Symbol.dispose](): void {
    this.#caller[Symbol.dispose]();
  }

  version = () => this.#caller.read(ControlService.getVersion, {});

  async createService(spec: ServiceSpec): Promise<ServiceResponse> {
    return await this.#caller.write(ControlService.createService, { spec, requestId: this.#caller.requestId() });
  }

  async updateService(service: string, version: number, spec: ServiceSpec, force: boolean): Promise<ServiceResponse> {
    const requestId = this.#caller.requestId();
    return await this.#caller.write(ControlService.updateService, { service, version, spec, force, requestId });
  }

  /** What creating this service would do, without doing it. */
  async planCreate(spec: ServiceSpec): Promise<PlanServiceResponse> {
    const value = { spec, requestId: this.#caller.requestId() };
    return await this.#caller.read(ControlService.planService, { change: { $case: "create", value } });
  }

  /** What this update would do, without doing it. */
  async planUpdate(service: string, version: number, spec: ServiceSpec, force: boolean): Promise<PlanServiceResponse> {
    const value = { service, version, spec, force, requestId: this.#caller.requestId() };
    return await this.#caller.read(ControlService.planService, { change: { $case: "update", value } });
  }

  /** Begins a run of a job now; the run carries the request's id. */
  async runService(service: string): Promise<ServiceResponse & { requestId: string }> {
    const requestId = this.#caller.requestId();
    return { ...(await this.#caller.write(ControlService.runService, { service, requestId })), requestId };
  }

  /** Moves tasks to where they would be placed today. Done twice it moves what is still worth moving. */
  async rebalance(service: string, dryRun: boolean, maxMoves: number): Promise<RebalanceResponse> {
    const request = { service, dryRun, maxMoves };
    return dryRun
      ? await this.#caller.read(ControlService.rebalance, request)
      : await this.#caller.write(ControlService.rebalance, request);
  }

  async scaleService(service: string, replicas: number): Promise<ServiceResponse> {
    const requestId = this.#caller.requestId();
    return await this.#caller.write(ControlService.scaleService, { service, replicas, requestId });
  }

  async rollbackService(service: string, toRevision: number): Promise<ServiceResponse> {
    const requestId = this.#caller.requestId();
    return await this.#caller.write(ControlService.rollbackService, { service, toRevision, requestId });
  }

  /** The name of what was removed. */
  async removeService(service: string): Promise<string> {
    try {
      const response = await this.#caller.write(ControlService.removeService, { service });
      return response.service?.spec?.name ?? service;
    } catch (error) {
      // The first try's answer was lost, and now it is gone: that was us.
      if (error instanceof ClusterError && error.code === "not_found" && isAfterLoss(error)) return service;
      throw error;
    }
  }

  async service(service: string): Promise<ServiceState> {
    return await this.#caller.read(ControlService.getService, { service });
  }

  async services(): Promise<ServiceState[]> {
    return (await this.#caller.read(ControlService.listServices, {})).services;
  }

  watchService(service: string, signal: AbortSignal): AsyncIterable<ServiceState> {
    return this.#caller.stream(ControlService.watchService, { service }, signal);
  }

  logs(request: ServiceLogsRequest, signal: AbortSignal): AsyncIterable<ServiceLogsResponse> {
    return this.#caller.stream(ControlService.serviceLogs, request, signal);
  }

  async tasks(filter: { service?: string; node?: string }): Promise<ListTasksResponse> {
    return await this.#caller.read(ControlService.listTasks, {
      service: filter.service ?? "",
      node: filter.node ?? "",
    });
  }

  async explainTask(task: string): Promise<ExplainTaskResponse> {
    return await this.#caller.read(ControlService.explainTask, { task });
  }

  async nodes(): Promise<NodeState[]> {
    return (await this.#caller.read(ControlService.listNodes, {})).nodes;
  }

  async node(node: string): Promise<NodeState> {
    return await this.#caller.read(ControlService.getNode, { node });
  }

  async updateNode(request: UpdateNodeRequest): Promise<NodeState> {
    return await this.#caller.write(ControlService.updateNode, request);
  }

  /** The hostname of what was forgotten. */
  async removeNode(node: string, force: boolean): Promise<string> {
    try {
      const response = await this.#caller.write(ControlService.removeNode, { node, force });
      return response.node?.description?.hostname ?? node;
    } catch (error) {
      // The first try's answer was lost, and now it is gone: that was us.
      if (error instanceof ClusterError && error.code === "not_found" && isAfterLoss(error)) return node;
      throw error;
    }
  }

  /** The cluster's settings and alarms. */
  async cluster(): Promise<Cluster> {
    return clusterOf(await this.#caller.read(ControlService.getCluster, {}));
  }

  async updateCluster(request: UpdateClusterRequest): Promise<Cluster> {
    return clusterOf(await this.#caller.write(ControlService.updateCluster, request));
  }

  async rollout(verb: "pause" | "resume" | "abort", service: string): Promise<Rollout | undefined> {
    const methods = {
      pause: ControlService.pauseRollout,
      resume: ControlService.resumeRollout,
      abort: ControlService.abortRollout,
    } as const satisfies Record<string, Service[keyof Service]>;
    const requestId = this.#caller.requestId();
    return (await this.#caller.write(methods[verb], { service, requestId })).rollout;
  }

  /** As the leader sees it, or with `local` the manager that is asked. */
  async clusterStatus(local = false): Promise<ClusterStatus> {
    return await this.#caller.read(ControlService.getClusterStatus, { local });
  }

  /** Name, id or address. Undefined when it was gone when the request was repeated: that was us. */
  async removeManager(manager: string, force: boolean): Promise<ManagerStatus | undefined> {
    try {
      return (await this.#caller.write(ControlService.removeManager, { manager, force })).manager;
    } catch (error) {
      if (error instanceof ClusterError && error.code === "not_found" && isAfterLoss(error)) return undefined;
      throw error;
    }
  }

  /** To this one, by name, id or address, or to whoever is furthest. */
  async transferLeadership(manager: string): Promise<ClusterStatus> {
    return await this.#caller.write(ControlService.transferLeadership, { manager });
  }

  backup(signal: AbortSignal): AsyncIterable<BackupPart> {
    return this.#caller.stream(ControlService.backupCluster, {}, signal);
  }

  events(sinceMs: number, signal: AbortSignal): AsyncIterable<Event> {
    return this.#caller.stream(ControlService.watchEvents, { sinceMs }, signal);
  }
}

function clusterOf({ cluster }: ClusterResponse): Cluster {
  if (cluster !== undefined) return cluster;
  throw new ClusterError("internal", "the manager answered without the cluster; its version may not be this command's");
}

/** To the managers that the flags, the environment or the current context name. */
export async function openApi(cli: Cli, managers?: Managers): Promise<ControlApi> {
  return new ControlApi({
    managers: managers ?? (await managersOf(cli)),
    clock: cli.io.clock,
    rng: cli.io.rng,
    notice: (text) => cli.io.err(`${plain(text)}\n`),
  });
}
