import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { addModule, addProcess } from "../testing/mini-objects.ts";
import { functionPointers } from "./function-pointers.ts";
import { runChecks } from "./run.ts";

const MODULE = 0xffff_ffff_c100_0000n;
const NOBODYS = 0xffff_ffff_c200_0000n;
const PAGE = 4096n;

test("a hook is found behind any number of honest pointers", () => {
  const kernel = new MiniKernel();
  addProcess(kernel, { pid: 1, comm: "init" });
  addModule(kernel, { name: "alpha", text: MODULE, sizes: [4096, 4096] });
  for (const page of [MODULE, NOBODYS]) kernel.tables.map(page, kernel.ram.take());
  for (const name of ["__start_rodata", "__end_rodata", "_sdata", "_edata", "__bss_start"])
    kernel.image(name, 0, "D", 1);
  const honest = 5000;
  const pointers = kernel.image("pointers", honest * 8, "b");
  for (let i = 0; i < honest; i++) kernel.writeInteger(pointers + BigInt(i * 8), MODULE + BigInt(i % 64) * 8n, 8);
  kernel.writeInteger(kernel.image("hook", 8, "b"), NOBODYS, 8);
  kernel.image("__bss_stop", Number(PAGE), "D");
  const guest = attach(kernel.finish().ram.mapped());
  const { findings, notes } = runChecks([functionPointers], guest.kernel, new Budget());
  assert.deepEqual(
    findings.map(({ what, severity }) => [what, severity]),
    [[`hook leads to 0x${NOBODYS.toString(16)}, which is in no module`, "critical"]],
  );
  assert.deepEqual(notes, []);
});
