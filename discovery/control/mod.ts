export { claimSocket, removePid, writePid } from "./instance.js";
export { RouteSaver, loadSaved } from "./saved.js";
export { Steering } from "./steer.js";
