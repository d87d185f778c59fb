import type { Halves } from "../bytes/address.ts";
import { follow } from "../linux/follow.ts";
import { plus, readPointer } from "../linux/read.ts";
import { kSigaction, SIGNALS, sighandStruct, signalName, signalPending, taskSignals } from "../linux/signals.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { CELL } from "./columns.ts";
import { eachProcess } from "./each-process.ts";
import { defineTable, integer, text } from "./table.ts";

const NONE: Halves = { hi: 0, lo: 0 };
/** SIG_DFL and SIG_IGN (include/uapi/asm-generic/signal-defs.h) */
const DEFAULT = 0;
const IGNORE = 1;

/** One row a signal that a process has pending, blocks, ignores or catches: the Sig lines of /proc/PID/status. */
export const processSignals = defineTable({
  name: "process_signals",
  description: "Signals that are pending, blocked, ignored or caught, of each process's first thread",
  columns: {
    pid: integer("Process (thread group) id", { key: true }),
    signal: integer("Number, 1 to 64"),
    name: text("SIGTERM and the like; SIGRT0 is the first real-time signal of the kernel, 32"),
    pending: integer("1 when it waits for the first thread"),
    shared_pending: integer("1 when it waits for whichever thread takes it"),
    blocked: integer("1 when the first thread blocks it"),
    ignored: integer("1 when the process ignores it"),
    caught: integer("1 when the process handles it"),
    handler: text("Address of the handler in the process"),
  },
  cost: "walk",
  reads: ["init_task", "task_struct", "signal_struct", "sighand_struct", "k_sigaction"],
  examples: [
    "SELECT pid, name FROM process_signals WHERE blocked = 1 AND signal = 15",
    "SELECT pid, count(*) AS ignored FROM process_signals WHERE ignored = 1 GROUP BY pid",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const { view } = kernel.memory;
    const task = kernel.layout(taskStruct);
    const signals = kernel.layout(taskSignals);
    const { shared_pending } = kernel.layout(signalPending);
    const { action } = kernel.layout(sighandStruct);
    const entry = kernel.layout(kSigaction);
    const handlerHi = new Int32Array(SIGNALS);
    const handlerLo = new Int32Array(SIGNALS);
    eachProcess(context, (at, pid) => {
      const shared = follow(kernel, at, task.signal, budget, (signal) => readPointer(space, signal, shared_pending));
      // A zombie has none any more.
      const handlers = follow(kernel, at, signals.sighand, budget, (sighand) => {
        budget.spend(SIGNALS);
        const first = plus(sighand, action + entry.sa_handler);
        const index = space.borrow(first.hi, first.lo, (SIGNALS - 1) * entry.sizeof + 8);
        for (let i = 0; index >= 0 && i < SIGNALS; i++) {
          handlerHi[i] = view.getInt32(index + i * entry.sizeof + 4, true);
          handlerLo[i] = view.getInt32(index + i * entry.sizeof, true);
        }
        return index >= 0;
      });
      const readable = typeof handlers !== "string" && handlers.value;
      if (!readable && handlers !== "null") context.incomplete(`the signal handlers of process ${pid} can't be read`);
      const pending = readPointer(space, at, signals.pending) ?? NONE;
      const blocked = readPointer(space, at, signals.blocked) ?? NONE;
      const sharedPending = (typeof shared === "string" ? undefined : shared.value) ?? NONE;
      for (let signal = 1; signal <= SIGNALS; signal++) {
        const hi = readable ? handlerHi[signal - 1]! : 0;
        const lo = readable ? handlerLo[signal - 1]! : DEFAULT;
        const ignored = hi === 0 && lo === IGNORE;
        const caught = !ignored && (hi !== 0 || lo !== DEFAULT);
        const isPending = bitOf(pending, signal);
        const isShared = bitOf(sharedPending, signal);
        const isBlocked = bitOf(blocked, signal);
        if (!ignored && !caught && (isPending | isShared | isBlocked) === 0) continue;
        out.pid?.push(pid);
        out.signal?.push(signal);
        out.name?.push(signalName(signal));
        out.pending?.push(isPending);
        out.shared_pending?.push(isShared);
        out.blocked?.push(isBlocked);
        out.ignored?.pushOr(readable ? Number(ignored) : undefined, CELL.unreadable);
        out.caught?.pushOr(readable ? Number(caught) : undefined, CELL.unreadable);
        if (caught) out.handler?.pushAddress(hi, lo);
        else out.handler?.absent(CELL.notApplicable);
        if (!context.row()) return false;
      }
      return true;
    });
  },
});

function bitOf(set: Halves, signal: number): number {
  return ((signal <= 32 ? set.lo : set.hi) >>> ((signal - 1) & 31)) & 1;
}
