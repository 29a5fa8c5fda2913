// Which tasks have been let go of by every ambassador. A task that is about to stop is drained once each node that is
// not lost has said that no connection to it is open, whether or not its agent is connected at the moment. What nodes
// said lives in memory only: a new leader hears it again from every agent, and until then each agent's own drain
// timeout decides.

export class Drains {
  /** By task, the nodes that said they have no connection open. */
  readonly #idle = new Map<string, Set<string>>();
  readonly #byService = new Map<string, readonly string[]>();
  /** Nodes that are not lost. */
  readonly #serving = new Set<string>();
  readonly #drained = new Set<string>();
  /** Tasks of which something is new since the last `settle`. */
  readonly #dirty = new Set<string>();

  /** A node's agent reported. Ignored for tasks that are not draining. */
  report(taskId: string, nodeId: string, activeConnections: number): void {
    const idle = this.#idle.get(taskId);
    if (idle === undefined) return;
    if (activeConnections > 0) idle.delete(nodeId);
    else idle.add(nodeId);
    this.#dirty.add(taskId);
  }

  /** The service's tasks that are draining now; its others are forgotten. */
  setDraining(serviceId: string, taskIds: readonly string[]): void {
    const now = new Set(taskIds);
    for (const id of this.#byService.get(serviceId) ?? []) {
      if (now.has(id)) continue;
      this.#idle.delete(id);
      this.#drained.delete(id);
    }
    if (taskIds.length === 0) this.#byService.delete(serviceId);
    else this.#byService.set(serviceId, taskIds);
    for (const id of taskIds) {
      if (this.#idle.has(id)) continue;
      this.#idle.set(id, new Set());
      this.#dirty.add(id);
    }
  }

  /** Whether the node's ambassador may have connections: it is not lost. */
  setServing(nodeId: string, isServing: boolean): void {
    if (isServing === this.#serving.has(nodeId)) return;
    if (isServing) this.#serving.add(nodeId);
    else {
      this.#serving.delete(nodeId);
      // It may have been the last one that was waited for.
      for (const id of this.#idle.keys()) this.#dirty.add(id);
    }
  }

  isDrained(taskId: string): boolean {
    return this.#drained.has(taskId);
  }

  /** Tasks that have become drained since the last call. */
  settle(): string[] {
    const fresh: string[] = [];
    for (const taskId of this.#dirty) {
      const idle = this.#idle.get(taskId);
      if (idle === undefined || this.#drained.has(taskId) || idle.size < this.#serving.size) continue;
      if (![...this.#serving].every((nodeId) => idle.has(nodeId))) continue;
      this.#drained.add(taskId);
      fresh.push(taskId);
    }
    this.#dirty.clear();
    return fresh;
  }
}
