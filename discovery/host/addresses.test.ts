// Watching the host's addresses while the system has nothing left to tell them with.

import { networkInterfaces } from "node:os";
import { expect, it, vi } from "vitest";
import { silentLogger } from "../../lib/mod.js";
import { FakeClock } from "../../test/kit/clock.js";
import { AddressWatch, type HostAddresses } from "./addresses.js";

vi.mock("node:os", async (original) => ({ ...(await original<object>()), networkInterfaces: vi.fn() }));

it("goes on looking after addresses could not be listed", async () => {
  const clock = new FakeClock();
  const seen: HostAddresses[] = [];
  vi.mocked(networkInterfaces).mockImplementationOnce(() => {
    throw new Error("uv_interface_addresses EMFILE");
  });
  using watch = new AddressWatch({
    clock,
    log: silentLogger,
    onChange: (now) => seen.push(now),
    run: () => Promise.resolve({ code: 0, stdout: "", stderr: "" }),
  });
  await watch.look();
  expect(seen).toEqual([]);
  const one = { address: "192.168.0.1", netmask: "", mac: "", internal: false, cidr: null };
  vi.mocked(networkInterfaces).mockReturnValue({ eth0: [{ ...one, family: "IPv4" }] });
  await clock.advance(2_000);
  expect(seen).toEqual([{ addresses: ["192.168.0.1"], bridges: [] }]);
});
