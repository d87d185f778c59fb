import { ptraceRelations } from "../tables/ptrace-relations.ts";
import { defineCheck } from "./check.ts";
import { baseName, describeProgram, programs } from "./programs.ts";

/** Programs that people trace with, and that say so. */
const DEBUGGERS = /^(gdb|gdbserver|lldb|lldb-server|strace|ltrace|rr|perf|valgrind|dlv|delve)(-|$)/;

export const tracedProcess = defineCheck({
  name: "traced-process",
  severity: "medium",
  cost: "walk",
  compares:
    "The threads of every process that another process traces (task_struct.ptrace). Whoever traces a process reads and " +
    "writes its memory and registers: so code is injected and passwords are read.",
  misses:
    "Tracing that has ended: what it left in memory is found by injected-memory. Memory that was written by other ways " +
    "(/proc/PID/mem, process_vm_writev) needs no tracing. Debuggers are reported as low; sandboxes (gVisor, crash " +
    "handlers, Wine) trace too.",
  confirm:
    "SELECT * FROM ptrace_relations. In the guest, TracerPid of /proc/PID/status; processes and process_tree tell who the " +
    "tracer is and who started it.",
  reads: ["init_task", "task_struct.ptrace and parent", "signal_struct", "mm_struct.exe_file"],
  look: (context) => {
    const columns = ["pid", "tid", "name", "tracer_pid", "tracer_name", "flag_names"];
    const rows = context.rows(ptraceRelations, { columns });
    if (rows.length === 0) return;
    const all = context.shared(programs);
    for (const [pid, threads] of Map.groupBy(rows, (row) => row.pid as number)) {
      const { tracer_pid, tracer_name, flag_names } = threads[0]!;
      const traced = all.get(pid) ?? { pid, name: String(threads[0]!.name), path: undefined };
      const tracer =
        typeof tracer_pid === "number"
          ? (all.get(tracer_pid) ?? { pid: tracer_pid, name: String(tracer_name), path: undefined })
          : undefined;
      const who = tracer === undefined ? "a process that can't be told" : describeProgram(tracer);
      context.report({
        what: `process ${pid} (${traced.name}) is traced by ${who}`,
        where: describeProgram(traced),
        evidence: `${threads.length} threads traced, ${flag_names}; tracer: ${who}`,
        expected: "no process that traces it",
        identity: `${traced.name} traced by ${tracer?.name ?? "?"}`,
        severity: tracer?.path !== undefined && DEBUGGERS.test(baseName(tracer.path)) ? "low" : "medium",
        pid,
      });
    }
  },
});
