import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addModule, addProcess } from "../testing/mini-objects.ts";
import { hiddenModule } from "./hidden-module.ts";
import { runChecks } from "./run.ts";

/** What is noted of a kernel with the module list, and others as far as they are made. */
function notes(make: (kernel: MiniKernel) => void): readonly string[] {
  const kernel = new MiniKernel();
  addProcess(kernel, { pid: 1, comm: "init" });
  addModule(kernel, { name: "alpha", sizes: [4096] });
  make(kernel);
  const answer = runChecks([hiddenModule], attach(kernel.finish().ram.mapped()).kernel, new Budget());
  assert.deepEqual(answer.findings, []);
  return answer.notes;
}

test("a list that the kernel does not have is not missed", () => {
  assert.deepEqual(
    notes(() => {}),
    [],
  );
});

test("lists that the kernel has, and that can't be followed, are named", () => {
  assert.deepEqual(
    notes((kernel) => kernel.writeInteger(kernel.modules, 0, 8)),
    ["hidden-module: the module list could not be followed to its end"],
  );
  assert.deepEqual(
    notes((kernel) => kernel.image("module_kset", 8)),
    ["hidden-module: /sys/module could not be followed to its end"],
  );
});
