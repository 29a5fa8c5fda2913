// The fake of the tests holds the engine's contract, too: what passes on it means something.

import { FakeEngine } from "../../test/kit/fake-engine.js";
import { engineContract } from "./contract.js";

engineContract("fake", async () => {
  let nowMs = 1_700_000_000_000;
  const engine = new FakeEngine(() => (nowMs += 1));
  return await Promise.resolve({
    engine,
    image: "busybox",
    hostAddress: "127.0.0.1",
    foreign: async (name: string) => await Promise.resolve(engine.addForeign(name)),
    end: () => engine[Symbol.asyncDispose](),
  });
});
