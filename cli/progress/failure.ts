// Why a task failed, with the last words of its log.

import type { Clock } from "../../lib/clock.js";
import { messageOf } from "../../lib/errors.js";
import type { Task } from "../../proto/gen/flotilla/objects/v1/objects.js";
import type { ControlApi } from "../client/mod.js";

const tailLines = 10;

export function whatFailed(task: Task): string {
  const { error = "", message = "", container } = task.status ?? {};
  if (error !== "") return error;
  if (container?.oomKilled === true) return "it used more memory than its limit";
  if (container?.exitCode !== undefined) return `exit code ${container.exitCode}`;
  return message === "" ? "it gave no reason" : message;
}

/** The task's last log lines, or why they cannot be had. Ends within `withinMs` and never throws. */
export async function logTail(
  api: Pick<ControlApi, "logs">,
  clock: Clock,
  service: string,
  taskId: string,
  withinMs: number,
): Promise<{ logs: string[]; noLogs: string }> {
  const controller = new AbortController();
  const cancel = clock.after(withinMs, () => controller.abort());
  const logs: string[] = [];
  let trouble = "";
  try {
    const request = { service, taskId, options: { follow: false, tail: tailLines, sinceMs: 0 } };
    for await (const { lines, warning } of api.logs(request, controller.signal)) {
      if (warning !== "") trouble = warning;
      for (const { text } of lines) logs.push(text.toString("utf8"));
      logs.splice(0, logs.length - tailLines);
    }
    if (controller.signal.aborted) trouble ||= "they did not come in time";
  } catch (error) {
    trouble = messageOf(error);
  } finally {
    cancel();
  }
  if (logs.length > 0) return { logs, noLogs: "" };
  return { logs, noLogs: trouble === "" ? "it logged nothing" : `no log lines: ${trouble}` };
}
