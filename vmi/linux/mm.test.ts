import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { Budget } from "../budget.ts";
import { attach, type Guest } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { MiniKernel } from "../testing/mini-kernel.ts";
import { ARGUMENTS, addProcess, type MemorySpec, type Process } from "../testing/mini-objects.ts";
import { halvesOf, mmStruct, readArguments, readUserSpan, residentCounter } from "./mm.ts";

const { kernel: mini } = miniGuest();
const guest = attach(mini.ram.mapped());
let pid = 1000;

const processOf = (memory: MemorySpec, on: MiniKernel = mini): Process =>
  addProcess(on, { pid: pid++, comm: "p", memory });

function argumentsOf(process: Process, from: Guest = guest): string | undefined {
  const { kernel } = from;
  kernel.dropCaches();
  const bytes = readArguments(kernel, halvesOf(process.mm!.va), new Budget());
  return bytes && Buffer.from(bytes).toString("latin1");
}

test("arguments as they were given, from one page into the next, through either depth of tables", () => {
  for (const mmu of [fourLevel, fiveLevel]) {
    const { kernel } = miniGuest({ mmu });
    const other = attach(kernel.ram.paged());
    for (const args of ["/bin/true\0", "ls\0-l\0\0\0", `cat\0${"x".repeat(9000)}\0`, "\xff\xfe\0", "", "\0"]) {
      assert.equal(argumentsOf(processOf({ args, env: "A=1\0" }, kernel), other), args);
    }
  }
});

test("a title written over the arguments is one string, to its end", () => {
  assert.equal(argumentsOf(processOf({ args: "daemon: ready\0left over", env: "A=1\0" })), "daemon: ready\0");
  assert.equal(argumentsOf(processOf({ args: "daemon: busy", env: "" })), "daemon: busy");
});

test("a title may go on into the environment that follows", () => {
  assert.equal(argumentsOf(processOf({ args: "daemon: work", env: "ing hard\0B=2\0" })), "daemon: working hard\0");
  assert.equal(argumentsOf(processOf({ args: "daemon: work", env: "ing" })), "daemon: working");
  const apart = processOf({ args: "daemon: work", env: "ing hard\0" });
  apart.mm!.set("env_start", ARGUMENTS + 13n);
  assert.equal(argumentsOf(apart), "daemon: work", "not where the arguments end");
  const backwards = processOf({ args: "daemon: work", env: "ing hard\0" });
  backwards.mm!.set("env_end", ARGUMENTS);
  assert.equal(argumentsOf(backwards), "daemon: work");
});

test("a title is at most a page", () => {
  const title = "t".repeat(5000);
  assert.equal(argumentsOf(processOf({ args: title, env: "" })), title.slice(0, 4096));
  assert.equal(argumentsOf(processOf({ args: "t".repeat(100), env: title })), title.slice(0, 4096));
  assert.equal(argumentsOf(processOf({ args: `${title}\0`, env: "" })), `${title}\0`, "arguments may be longer");
});

test("no arguments: none yet, none at all, and an end before the start", () => {
  const fresh = processOf({ args: "x\0", env: "" });
  fresh.mm!.set("env_end", 0);
  assert.equal(argumentsOf(fresh), "");
  const backwards = processOf({ args: "x\0", env: "A=1\0" });
  backwards.mm!.set("arg_end", ARGUMENTS - 1n);
  assert.equal(argumentsOf(backwards), "");
});

test("arguments that are not all in memory, or too long, are unreadable", () => {
  const swapped = processOf({ args: `cat\0${"x".repeat(9000)}\0`, env: "" });
  swapped.tables!.setEntry(ARGUMENTS + 4096n, 0n, 12);
  assert.equal(argumentsOf(swapped), undefined);
  const endless = processOf({ args: "x\0", env: "" });
  endless.mm!.set("arg_end", 0x7fff_ffff_f000n);
  assert.equal(argumentsOf(endless), undefined);
  const noTables = processOf({ args: "x\0", env: "A=1\0" });
  for (const pgd of [0n, 0xffff_c900_0000_0000n]) {
    noTables.mm!.set("pgd", pgd);
    assert.equal(argumentsOf(noTables), undefined);
  }
});

test("arguments at the top of a 5-level address space have their length", () => {
  const { kernel } = miniGuest({ mmu: fiveLevel });
  const other = attach(kernel.ram.mapped());
  const high = 0x00ff_ffff_ffff_e001n;
  const process = processOf({ args: "x\0", env: "A=1\0" }, kernel);
  process.tables!.map(high - 1n, kernel.ram.take(), { user: true });
  process.mm!.setAll({ arg_start: high, arg_end: high + 3n });
  assert.equal(argumentsOf(process, other), "\0\0\0");
});

test("a span spends from the budget by its length", () => {
  const process = processOf({ args: `${"x".repeat(60_000)}\0`, env: "" });
  const { arg_start, arg_end } = guest.kernel.layout(mmStruct);
  const budget = new Budget(60_000, 4097);
  assert.throws(
    () => {
      for (let i = 0; i < 1000; i++) readUserSpan(guest.kernel, halvesOf(process.mm!.va), arg_start, arg_end, budget);
    },
    { kind: "over-budget" },
  );
});

test("resident pages are those in files, anonymous and shared, not those in swap; negative ones count as none", () => {
  for (const flavour of ["6.1", "6.13"] as const) {
    const { kernel } = miniGuest({ flavour });
    const { kernel: other } = attach(kernel.ram.mapped());
    const residentOf = residentCounter(other, new Budget());
    const resident = (process: Process) => residentOf(halvesOf(process.mm!.va));
    assert.equal(resident(processOf({ resident: [1000, 200, 9999, 30] }, kernel)), 1230);
    assert.equal(resident(processOf({ resident: [1000, -200, 0, -1] }, kernel)), 1000);
    assert.equal(residentOf(halvesOf(0xffff_c900_0000_0000n)), undefined);
  }
});

test("resident pages are with what each CPU has not yet added up", () => {
  const kernel = new MiniKernel({ flavour: "6.13" });
  // Where CPUs 0 and 2 of three have their variables.
  const areas = [kernel.allocate(64), 0n, kernel.allocate(64)];
  const base = 0x1000n;
  const offsets = kernel.image("__per_cpu_offset", 24, "D");
  areas.forEach((area, cpu) => {
    kernel.writeInteger(offsets + BigInt(cpu * 8), BigInt.asUintN(64, area - base), 8);
  });
  kernel.writeInteger(kernel.image("__cpu_possible_mask", 8, "D"), 0b101, 8);
  kernel.writeInteger(kernel.image("nr_cpu_ids", 4, "D"), 3, 4);
  const process = processOf({ resident: [1000, 200, 0, 30] }, kernel);
  const { size, members } = kernel.types.of.percpu_counter!;
  const setParts = (counter: number, pointer: bigint, parts: readonly number[]) => {
    const at = process.mm!.at("rss_stat") + BigInt(counter * size + members.get("counters")!.offset);
    kernel.writeInteger(at, pointer, 8);
    parts.forEach((part, i) => {
      kernel.writeInteger(areas[i * 2]! - base + pointer, BigInt.asUintN(32, BigInt(part)), 4);
    });
  };
  setParts(0, base, [-20, 5]);
  setParts(1, base + 4n, [7, 1]);
  setParts(3, base + 8n, [-31, -31]);
  const { kernel: other } = attach(kernel.finish().ram.mapped());
  const resident = () => residentCounter(other, new Budget())(halvesOf(process.mm!.va));
  assert.equal(resident(), 985 + 208);
  setParts(1, 0xffff_c900_0000_0000n - areas[0]! + base, []);
  assert.equal(resident(), undefined);
});
