// `flotilla service …`.

import type { Command } from "commander";
import type { Cli } from "../leaf.js";
import { addRm, addRollback, addScale } from "./change.js";
import { addCreate, addUpdate } from "./create.js";
import { addInspect, addLs, addPs } from "./list.js";
import { addLogs } from "./logs.js";

export function addService(program: Command, cli: Cli): void {
  const service = program.command("service").summary("create, update, look at and remove services");
  service
    .description("Services: a number of replicas of a container, found by name.")
    .enablePositionalOptions()
    .helpCommand(false);
  addCreate(service, cli);
  addUpdate(service, cli);
  addLs(service, cli);
  addPs(service, cli);
  addInspect(service, cli);
  addLogs(service, cli);
  addScale(service, cli);
  addRollback(service, cli);
  addRm(service, cli);
}
