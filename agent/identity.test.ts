import assert from "node:assert/strict";
import { test } from "node:test";
import { incarnationOf, uuid5, vmUuid } from "./identity.ts";

test("UUID version 5", () => {
  // The example of RFC 9562, appendix A.4: www.example.com in the name space of domain names.
  assert.equal(
    uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com"),
    "2ed6657d-e927-568b-95e1-2665a8aea6a2",
  );
});

test("a VM without a UUID has the same one in the same place", () => {
  const none = "00000000-0000-0000-0000-000000000000";
  assert.equal(vmUuid(none, "/run/a.sock"), vmUuid("", "/run/a.sock"));
  assert.equal(vmUuid("no UUID, though long".repeat(1000), "/run/a.sock"), vmUuid(none, "/run/a.sock"));
  assert.notEqual(vmUuid(none, "/run/a.sock"), vmUuid(none, "/run/b.sock"));
  assert.equal(vmUuid("ABCDEF00-0000-4000-8000-000000000000", "/run/a.sock"), "abcdef00-0000-4000-8000-000000000000");
});

test("an incarnation names the boot, the process and its start", () => {
  assert.match(incarnationOf({ pid: 12, start: "3456" }), /^[0-9a-f]{8}-12-3456$/);
});
