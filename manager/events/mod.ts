// manager/events: what happened, for people, with what led to it. `describe` reads it off the store's commits, so that
// nothing can happen without being told; the EventLog tells it in order, and remembers the newest for those who ask
// late. Imports lib, proto, deploy and the store.

export { describe, type Told } from "./describe.js";
export { EventLog } from "./log.js";
