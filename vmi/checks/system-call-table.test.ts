import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addProcess } from "../testing/mini-objects.ts";
import { runChecks } from "./run.ts";
import { systemCallTable } from "./system-call-table.ts";

/** Between 335 and 424 there are no system calls. */
const WITHOUT_NAME = 340;
const OUTSIDE = 0xffff_ffff_c100_0000n;

/** What is found where some entries lead to a function of this name, or to an address. */
function found(changes: Readonly<Record<number, string | bigint>>): (readonly [string, string])[] {
  const kernel = new MiniKernel();
  addProcess(kernel, { pid: 1, comm: "init" });
  kernel.image("__x64_sys_read", 32, "T");
  kernel.image("newest_call", 32, "T");
  const none = kernel.image("__x64_sys_ni_syscall", 32, "T");
  const table = kernel.image("sys_call_table", (WITHOUT_NAME + 1) * 8, "R");
  kernel.image("behind_the_table", 8, "R");
  for (let number = 0; number <= WITHOUT_NAME; number++) {
    const to = changes[number] ?? (number === 0 ? "__x64_sys_read" : none);
    kernel.writeInteger(table + BigInt(number * 8), typeof to === "bigint" ? to : kernel.symbol(to), 8);
  }
  kernel.finish();
  const { findings } = runChecks([systemCallTable], attach(kernel.ram.mapped()).kernel, new Budget());
  return findings.map(({ what, expected }) => [what, expected] as const);
}

test("entries lead to the functions of their names, or to none", () => {
  assert.deepEqual(found({}), []);
  assert.deepEqual(found({ 0: "newest_call" }), [
    ["system call 0 (read) goes to newest_call", "the kernel's own function for read"],
  ]);
});

test("a number without a known name may have any function of the kernel's text, and no other", () => {
  assert.deepEqual(found({ [WITHOUT_NAME]: "newest_call" }), []);
  assert.deepEqual(found({ [WITHOUT_NAME]: OUTSIDE }), [
    [
      `system call ${WITHOUT_NAME} goes to 0x${OUTSIDE.toString(16)}, which is in no module`,
      "a function of the kernel's text",
    ],
  ]);
});
