// What users do to services: each call checks everything before it writes anything, and writes in one transaction.

import { checkServiceSpec, findCycle } from "../../deploy/spec/mod.js";
import { type Clock, ClusterError, type Rng } from "../../lib/mod.js";
import type { Service, ServiceSpec } from "../../proto/mod.js";
import type {
  CreateServiceRequest,
  RollbackServiceRequest,
  RolloutRequest,
  RolloutResponse,
  RunServiceRequest,
  ScaleServiceRequest,
  ServiceResponse,
  UpdateServiceRequest,
} from "../../proto/gen/flotilla/control/v1/control.js";
import type { ServiceSpec as ServiceSpecMessage } from "../../proto/gen/flotilla/objects/v1/objects.js";
import { allocateVip } from "../allocator/mod.js";
import { createService, removeService, runService, scaleService, updateService } from "../orchestrator/mod.js";
import {
  abortRollout,
  applySteps,
  isUnderWay,
  type Making,
  pauseRollout,
  resumeRollout,
  rollbackService,
  type ServiceChange,
  type ServiceParts,
} from "../rollout/mod.js";
import type { Store, View } from "../store/mod.js";
import { findService } from "./lookup.js";

export interface ServicesOptions {
  store: Store;
  clock: Clock;
  rng: Rng;
}

function partsOf(view: View, service: Service): ServiceParts {
  return {
    service,
    revisions: view.revisionsOfService(service.meta.id),
    rollout: view.rollouts.get(service.rolloutId),
  };
}

function checked(message: ServiceSpecMessage | undefined): ServiceSpec {
  if (message === undefined)
    throw ClusterError.invalid([{ field: "spec", value: "", rule: "must be given", fix: "send a service spec" }]);
  const result = checkServiceSpec(message);
  if ("violations" in result) throw ClusterError.invalid(result.violations);
  return result.spec;
}

/**
 * What other services publish. While a rollout is under way, that includes what it may go back to: a failed update
 * that is undone must find its ports free.
 */
function publishedByOthers(view: View, ownId: string): Map<number, Service> {
  const taken = new Map<number, Service>();
  for (const service of view.services.values()) {
    if (service.meta.id === ownId) continue;
    const rollout = view.rollouts.get(service.rolloutId);
    const from = isUnderWay(rollout) ? view.revisionOfService(service.meta.id, rollout.fromRevision) : undefined;
    for (const { publishedPort } of [...service.spec.ports, ...(from?.spec.ports ?? [])])
      if (publishedPort !== 0) taken.set(publishedPort, service);
  }
  return taken;
}

/** A published port answers on every host, so only one service can have it. */
function refuseTakenPorts(view: View, spec: ServiceSpec, ownId: string): void {
  if (spec.ports.every(({ publishedPort }) => publishedPort === 0)) return;
  const taken = publishedByOthers(view, ownId);
  const violations = spec.ports.flatMap(({ publishedPort }, i) => {
    const other = taken.get(publishedPort);
    if (other === undefined) return [];
    const isLeaving = other.spec.ports.every((port) => port.publishedPort !== publishedPort);
    return [
      {
        field: `ports[${i}].published`,
        value: String(publishedPort),
        rule: `must not be published by another service, and service ${other.spec.name} publishes it${isLeaving ? " until its rollout has ended" : ""}`,
        fix: "publish another port",
      },
    ];
  });
  if (violations.length > 0)
    throw new ClusterError("already_exists", ClusterError.invalid(violations).message, { violations });
}

/** What a create does to what is there: the call writes it, a plan only shows it. */
export function decideCreate(view: View, request: CreateServiceRequest, making: Making): ServiceChange {
  const spec = checked(request.spec);
  const holder = view.serviceByName(spec.name);
  if (holder === undefined) refuseTakenPorts(view, spec, "");
  const [cluster] = view.clusters.values();
  // A cluster's first leader has begun to lead a moment ago.
  if (cluster === undefined) throw new ClusterError("unavailable", "the cluster's settings are not stored yet");
  if (holder === undefined) refuseCycle(view, spec);
  return createService(
    {
      spec,
      vip: holder?.vip ?? allocateVip(view, cluster),
      requestId: request.requestId,
      existing: holder === undefined ? undefined : partsOf(view, holder),
    },
    making,
  );
}

/** What an update does, likewise. */
export function decideUpdate(view: View, request: UpdateServiceRequest, making: Making): ServiceChange {
  const spec = checked(request.spec);
  const { version, force, requestId } = request;
  const parts = partsOf(view, findService(view, request.service));
  const change = updateService(parts, { spec, version, force, requestId }, making);
  if (change.steps.length > 0) {
    refuseTakenPorts(view, spec, parts.service.meta.id);
    refuseCycle(view, spec);
  }
  return change;
}

/** Services that wait for each other would wait for ever. */
function refuseCycle(view: View, { name, dependsOn }: ServiceSpec): void {
  if (dependsOn.length === 0) return;
  const cycle = findCycle(name, dependsOn, (other) => view.serviceByName(other)?.spec);
  if (cycle === undefined) return;
  const [, needed = name] = cycle;
  throw ClusterError.invalid([
    {
      field: `depends_on[${dependsOn.indexOf(needed)}]`,
      value: needed,
      rule: `must not lead back to ${name}: ${cycle.join(" depends on ")}`,
      fix: `leave out ${needed}, or one of the others of this circle`,
    },
  ]);
}

export class Services {
  readonly #store: Store;
  readonly #making: () => Making;

  constructor({ store, clock, rng }: ServicesOptions) {
    this.#store = store;
    this.#making = () => ({ now: clock.now(), id: () => rng.id() });
  }

  async create(request: CreateServiceRequest): Promise<ServiceResponse> {
    return await this.#commit((tx) => decideCreate(tx, request, this.#making()));
  }

  async update(request: UpdateServiceRequest): Promise<ServiceResponse> {
    return await this.#commit((tx) => decideUpdate(tx, request, this.#making()));
  }

  async run({ service, requestId }: RunServiceRequest): Promise<ServiceResponse> {
    return await this.#change(service, (parts) => runService(parts, { requestId }, this.#making()));
  }

  async scale({ service, replicas, requestId }: ScaleServiceRequest): Promise<ServiceResponse> {
    return await this.#change(service, (parts) => scaleService(parts, { replicas, requestId }, this.#making()));
  }

  async rollback({ service, toRevision, requestId }: RollbackServiceRequest): Promise<ServiceResponse> {
    return await this.#change(service, (parts, view) => {
      const change = rollbackService(parts, { toRevision, requestId }, this.#making());
      // An older revision may publish a port that another service has been given since.
      if (change.steps.length > 0) {
        refuseTakenPorts(view, change.service.spec, parts.service.meta.id);
        refuseCycle(view, change.service.spec);
      }
      return change;
    });
  }

  async remove(service: string): Promise<ServiceResponse> {
    return await this.#change(service, (parts) => removeService(parts.service, this.#making()));
  }

  async pauseRollout({ service }: RolloutRequest): Promise<RolloutResponse> {
    return await this.#change(service, (parts) => pauseRollout(parts, this.#making()));
  }

  async resumeRollout({ service }: RolloutRequest): Promise<RolloutResponse> {
    return await this.#change(service, (parts) => resumeRollout(parts, this.#making()));
  }

  async abortRollout({ service, requestId }: RolloutRequest): Promise<RolloutResponse> {
    return await this.#change(service, (parts) => abortRollout(parts, requestId, this.#making()));
  }

  #change(service: string, decide: (parts: ServiceParts, view: View) => ServiceChange): Promise<ServiceResponse> {
    return this.#commit((tx) => decide(partsOf(tx, findService(tx, service)), tx));
  }

  async #commit(decide: (view: View) => ServiceChange): Promise<ServiceResponse> {
    const decided = await this.#store.update((tx) => {
      const change = decide(tx);
      applySteps(tx, change.steps);
      return { serviceId: change.service.meta.id, rolloutId: change.rollout?.meta.id ?? "", service: change.service };
    });
    // As stored, with the versions that the commit gave.
    const view = this.#store.view();
    return {
      service: view.services.get(decided.serviceId) ?? decided.service,
      rollout: view.rollouts.get(decided.rolloutId),
    };
  }
}
