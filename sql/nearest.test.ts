import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "./nearest.ts";

const tables = ["processes", "process_threads", "kernel_modules", "kernel_info", "memory_map"];

test("typing errors find their name", () => {
  assert.equal(nearest("proceses", tables), "processes");
  assert.equal(nearest("kernel_moduels", tables), "kernel_modules");
  assert.equal(nearest("Kernel_Info", tables), "kernel_info");
  assert.equal(nearest("memory", tables), "memory_map");
  assert.equal(nearest("wbe1", ["web1", "db1"]), "web1");
});

test("nothing is suggested for what is not near", () => {
  assert.equal(nearest("sockets", tables), undefined);
  assert.equal(nearest("x", ["web1"]), undefined);
  assert.equal(nearest("web1", []), undefined);
  assert.equal(nearest("a".repeat(10_000), tables), undefined);
});
