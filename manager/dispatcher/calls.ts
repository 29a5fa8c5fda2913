// The agents' calls, each handed to the dispatcher of the day: there is one only while this manager leads.

import type {
  DispatcherServer,
  RegisterRequest,
  UpdateStatusRequest,
} from "../../proto/gen/flotilla/dispatcher/v1/dispatcher.js";
import type { Handlers } from "../rpc/mod.js";
import type { Dispatcher } from "./dispatcher.js";

/** `current` throws what agents are told where there is no dispatcher: who leads instead. */
export function dispatcherHandlers(handlers: Handlers, current: () => Dispatcher): DispatcherServer {
  return {
    register: handlers.serverStream("Register", (request: RegisterRequest, signal) =>
      current().register(request, signal),
    ),
    heartbeat: handlers.unary("Heartbeat", ({ sessionId }) => ({ periodMs: current().heartbeat(sessionId) })),
    assignments: handlers.serverStream("Assignments", ({ sessionId }, signal) =>
      current().assignments(sessionId, signal),
    ),
    updateStatus: handlers.unary("UpdateStatus", async (request: UpdateStatusRequest) => {
      await current().updateStatus(request);
      return {};
    }),
    logSubscriptions: handlers.serverStream("LogSubscriptions", ({ sessionId }, signal) =>
      current().logSubscriptions(sessionId, signal),
    ),
    publishLogs: handlers.clientStream("PublishLogs", async (requests) => {
      await current().logs.publish(requests);
      return {};
    }),
  };
}
