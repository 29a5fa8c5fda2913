// Which tasks have been let go of by every ambassador. A task that is about to stop is drained once each node that is
// not lost has said that no connection to it is open, whether or not its agent is connected at the moment. The counts live in memory only: a new leader hears them
// again from every agent, and until then each agent's own drain timeout decides.

export class Drains {
  /** By task, by node: open connections. */
  readonly #reports = new Map<string, Map<string, number>>();
  readonly #drained = new Set<string>();

  /** A node's agent reported. Ignored for tasks that are not draining. */
  report(taskId: string, nodeId: string, activeConnections: number): void {
    this.#reports.get(taskId)?.set(nodeId, activeConnections);
  }

  /** The tasks that are draining now; others are forgotten. */
  retain(draining: ReadonlySet<string>): void {
    for (const id of this.#reports.keys()) {
      if (draining.has(id)) continue;
      this.#reports.delete(id);
      this.#drained.delete(id);
    }
    for (const id of draining) if (!this.#reports.has(id)) this.#reports.set(id, new Map());
  }

  isDrained(taskId: string): boolean {
    return this.#drained.has(taskId);
  }

  /** Tasks that have become drained since the last call, given the nodes that are not lost. */
  settle(nodeIds: readonly string[]): string[] {
    const fresh: string[] = [];
    for (const [taskId, byNode] of this.#reports) {
      if (this.#drained.has(taskId)) continue;
      if (!nodeIds.every((nodeId) => byNode.get(nodeId) === 0)) continue;
      this.#drained.add(taskId);
      fresh.push(taskId);
    }
    return fresh;
  }
}
