import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { gvaOf } from "../bytes/address.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import type { Thing } from "../testing/mini-kernel.ts";
import { ARGUMENTS, addThread } from "../testing/mini-objects.ts";
import { rowsOf } from "../testing/rows.ts";
import { halvesOf } from "./mm.ts";
import { processMember } from "./process-member.ts";
import { taskFiles, taskStruct } from "./task-struct.ts";

const PF_EXITING = 0x4;
const EXIT_ZOMBIE = 0x20;
const POINTERS = ["mm", "files", "fs", "nsproxy"] as const;

/** As do_exit() leaves a task that stays for others. */
function end(task: Thing): void {
  task.setAll({ exit_state: EXIT_ZOMBIE, flags: PF_EXITING });
  for (const pointer of POINTERS) task.set(pointer, 0n);
}

/** The mini guest, whose shell has two more threads with all that its first one has. */
function threaded() {
  const guest = miniGuest();
  const { kernel: mini, shell } = guest;
  const threads = [302, 303].map((pid) => addThread(mini, shell, { pid, comm: `thread-${pid}` }));
  for (const thread of threads)
    for (const pointer of POINTERS) thread.set(pointer, mini.readPointer(shell.task.at(pointer)));
  return { ...guest, threads };
}

for (const kind of ["mapped", "paged"] as const) {
  test(`${kind}: what the first thread has, or else the first one that has it still`, () => {
    const { kernel: mini, shell, kthread, threads } = threaded();
    const { kernel } = attach(mini.ram[kind]());
    const { mm } = kernel.layout(taskStruct);
    const { files } = kernel.layout(taskFiles);
    const found = (task: Thing, member = mm) => {
      kernel.dropCaches();
      const at = processMember(kernel, halvesOf(task.va), member, new Budget());
      return at && gvaOf(at.hi, at.lo);
    };
    const memory = shell.mm!.va;
    assert.equal(found(shell.task), memory);
    end(shell.task);
    assert.equal(found(shell.task), memory);
    // Threads may have files of their own (unshare(CLONE_FILES)).
    threads[0]!.set("files", 0x1000n);
    assert.equal(found(shell.task, files), 0x1000n);
    end(threads[0]!);
    const last = mini.readPointer(threads[1]!.at("files"));
    assert.equal(found(shell.task, files), last);
    end(threads[1]!);
    assert.equal(found(shell.task, files), 0n, "nobody has any");
    assert.equal(found(kthread.task), 0n, "a thread of the kernel has none");
    const node = threads[1]!.at("thread_node");
    mini.writeInteger(node, node, 8);
    kernel.dropCaches();
    const endless = () => processMember(kernel, halvesOf(shell.task.va), files, new Budget(60_000, 1000));
    assert.throws(endless, { kind: "over-budget" });
  });

  test(`${kind}: tables tell of a process whose first thread has ended what its other threads have`, () => {
    const { kernel: mini, shell } = threaded();
    const tables = ["process_open_files", "process_envs", "process_memory_map", "process_namespaces", "shell_history"];
    const where = [{ column: "pid", values: ["300"] }];
    const columns = ["path", "cmdline", "on_disk", "total_size", "cwd", "root", "net_namespace"];
    const bytes = { space: { pid: 300 }, address: ARGUMENTS, length: 8 };
    const told = () => {
      const guest = attach(mini.ram[kind]());
      const rows = tables.map((table) => rowsOf(guest.table(table, { where })));
      return [...rows, rowsOf(guest.table("processes", { where, columns })), guest.read([bytes])];
    };
    const before = told();
    for (const rows of before) assert.ok(rows.length > 0);
    end(shell.task);
    assert.deepEqual(told(), before);
  });
}
