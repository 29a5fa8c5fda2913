export { Carrier, type CarrierObserver, type CarrierOptions, type Refusal } from "./carrier.js";
export { Listeners, type ListenersOptions } from "./listeners.js";
