import { expect, test } from "vitest";
import { main } from "./counter.js";

test("the example of the README counts", async () => {
  const said: string[] = [];
  await main((line) => said.push(line));
  expect(said).toEqual(["after 5: 5", "after 37: 42", "after 100: 142", "node 3 reads 142"]);
});
