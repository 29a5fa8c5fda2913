// `flotilla service …`.

import type { Command } from "commander";
import { type Cli, addGroup } from "../leaf.js";
import { addRm, addRollback, addScale } from "./change.js";
import { addCreate } from "./create.js";
import { addInspect, addLs, addPs } from "./list.js";
import { addLogs } from "./logs.js";
import { addRebalance, addRun } from "./run.js";
import { addPlan, addUpdate } from "./update.js";

export function addService(program: Command, cli: Cli): void {
  const service = addGroup(program, {
    name: "service",
    summary: "create, update, look at and remove services",
    description:
      "Services: replicas of a container, found by name, or one on every node; jobs that run to completion, once or by a schedule.",
    examples: [
      "flotilla service create --name web --replicas 6 --publish 8080:80 nginx:1.27",
      "flotilla service ps web",
      "flotilla service update --image nginx:1.28 web",
      "flotilla service logs -f web",
    ],
  });
  addCreate(service, cli);
  addUpdate(service, cli);
  addPlan(service, cli);
  addLs(service, cli);
  addPs(service, cli);
  addInspect(service, cli);
  addLogs(service, cli);
  addScale(service, cli);
  addRun(service, cli);
  addRollback(service, cli);
  addRebalance(service, cli);
  addRm(service, cli);
}
