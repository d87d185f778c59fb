import assert from "node:assert/strict";
import { test } from "node:test";
import { systemActions, vmActions } from "../action.ts";
import { accountRpcs, adminRpcs, detailText, guestRpcs, healthRpcs, sqlRpcs, vmRpcs } from "./rpc.ts";

test("every action is some RPC's, and only the health check is open", () => {
  const used = new Set<string>();
  const openRpcs: string[] = [];
  for (const table of [guestRpcs, vmRpcs, sqlRpcs, healthRpcs, accountRpcs, adminRpcs]) {
    for (const [name, rpc] of Object.entries(table)) {
      if ("action" in rpc) used.add(rpc.action);
      else openRpcs.push(name);
    }
  }
  assert.deepEqual([...used].sort(), [...Object.keys(vmActions), ...Object.keys(systemActions)].sort());
  assert.deepEqual(openRpcs, ["check"]);
});

test("a detail is JSON of a bounded size", () => {
  const text = detailText({ names: Array.from({ length: 1000 }, () => "n".repeat(1000)), big: 5n, short: "s" });
  assert.ok(text.length < 4000);
  const parsed = JSON.parse(text) as { names: string[]; big: string; short: string };
  assert.equal(parsed.names.length, 17);
  assert.equal(parsed.names[16], "and 984 more");
  assert.equal(parsed.names[0], `${"n".repeat(200)}…`);
  assert.equal(parsed.big, "5");
  assert.equal(parsed.short, "s");
});
