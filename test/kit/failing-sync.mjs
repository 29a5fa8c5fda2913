// For `node --import`: once the file TEST_SYNC_FAILS_AT is there, every fdatasync of this process fails with EIO, as on a
// disk that is dying. Which files were to be synced then is written to it, a line each.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const trigger = process.env["TEST_SYNC_FAILS_AT"];
if (trigger === undefined) throw new Error("TEST_SYNC_FAILS_AT names no file");
const { fdatasync, fdatasyncSync } = fs;

/** @param {number} fd */
function failure(fd) {
  if (!fs.existsSync(trigger)) return undefined;
  fs.appendFileSync(trigger, `${fs.readlinkSync(`/proc/self/fd/${fd}`)}\n`);
  return Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO", errno: -5, syscall: "fdatasync" });
}

fs.fdatasync = (fd, done) => {
  const error = failure(fd);
  if (error === undefined) fdatasync(fd, done);
  else setImmediate(() => done(error));
};
fs.fdatasyncSync = (fd) => {
  const error = failure(fd);
  if (error !== undefined) throw error;
  fdatasyncSync(fd);
};
syncBuiltinESMExports();
