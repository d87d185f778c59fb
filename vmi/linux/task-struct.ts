import { struct, symbol } from "../symbols/specs.ts";

/** include/linux/sched.h */
export const taskStruct = struct("task_struct", {
  tasks: "tasks",
  pid: "pid",
  tgid: "tgid",
  comm: "comm",
  /** `__state` from 5.14 (2f064a59a11f), an unsigned int; before `state`, a long. */
  state: ["__state", "state"],
  exit_state: "exit_state",
  flags: "flags",
  static_prio: "static_prio",
  real_parent: "real_parent",
  group_leader: "group_leader",
  real_cred: "real_cred",
  mm: "mm",
  signal: "signal",
  fs: "fs",
  nsproxy: "nsproxy",
  cgroups: "cgroups",
  /** From 5.5 (cf25e24db61c); before `real_start_time`. */
  start_boottime: ["start_boottime", "real_start_time"],
  /** From 4.19 (2c4704756cab). None once the task has been released: __unhash_process() (kernel/exit.c). */
  thread_pid: "?thread_pid",
  thread_node: "thread_node",
});

/** What only tables of files look at: apart, so that a block of tasks stays short. */
export const taskFiles = struct("task_struct", { files: "files" });

export const signalStruct = struct("signal_struct", {
  nr_threads: "nr_threads",
  thread_head: "thread_head",
  pids: "pids",
});

export const initTask = symbol("init_task");

/** include/linux/sched.h: PF_KTHREAD */
export const PF_KTHREAD = 0x0020_0000;
/** MAX_RT_PRIO + 20: NICE_TO_PRIO(0) (include/linux/sched/prio.h) */
export const DEFAULT_PRIO = 120;
export const TASK_COMM_LEN = 16;
/** PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h): no list of tasks is longer. */
export const PID_MAX_LIMIT = 4 * 1024 * 1024;
