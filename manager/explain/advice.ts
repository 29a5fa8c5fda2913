// What to do for a task that fits nowhere, by what nodes lack. The reasons are the scheduler's own words, which a test
// holds the two to.

/** Every reason that occurs gets its advice, in this order. */
const remedies: readonly { on: RegExp; advise: (service: string) => string }[] = [
  {
    on: /\bshort of (cpus|memory)\b/,
    advise: (service) => `ask for less: flotilla service update --reserve-cpu … --reserve-memory … ${service}`,
  },
  { on: /\bshort of /, advise: () => "or make room: add a node, or scale another service down" },
  {
    on: /\bexcluded by /,
    advise: (service) =>
      `give a node what is asked for: flotilla node update --label-add KEY=VALUE NODE; or take the constraint away: flotilla service update --constraint-rm … ${service}`,
  },
  { on: /\b(cordoned|drained)\b/, advise: () => "let a node have tasks again: flotilla node activate NODE" },
  { on: /\b(not connected|down)\b/, advise: () => "look after the nodes that are away: flotilla node ls" },
  {
    on: /\breplicas? per node\b/,
    advise: (service) => `allow more of them: flotilla service update --replicas-max-per-node 0 ${service}`,
  },
  {
    on: /\bwith port \d+ in use\b/,
    advise: () => "a port of mode=host can be had once per node: use mode=ingress, another port, or fewer tasks",
  },
  {
    on: /\bwithout volume driver /,
    advise: () => "install the volume driver on a node; its agent finds it when it starts",
  },
  {
    on: /\b(without a task of|with a task of|with a task that must not) /,
    advise: (service) => `the affinities that must hold are in: flotilla service inspect ${service}`,
  },
];

export function adviceFor(message: string, service: string): string[] {
  const advice = remedies.filter(({ on }) => on.test(message)).map(({ advise }) => advise(service));
  return advice.length > 0 ? advice : [`see what it asks for: flotilla service inspect ${service}`];
}
