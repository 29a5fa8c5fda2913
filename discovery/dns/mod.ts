export { Gate } from "./admission.js";
export { Forwarder } from "./forwarder.js";
export { Resolver } from "./resolver.js";
export { DnsServer } from "./server.js";
export { Upstreams } from "./upstreams.js";
