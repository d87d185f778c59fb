import { addHi, addLo, type Halves, numberOf } from "../bytes/address.ts";
import { cgroupPath } from "../linux/cgroup.ts";
import { cred } from "../linux/cred.ts";
import { fsStruct } from "../linux/fs-struct.ts";
import type { Kernel } from "../linux/kernel.ts";
import { mmStruct, readArguments, residentPages } from "../linux/mm.ts";
import {
  cgroupNamespace,
  ipcNamespace,
  mntNamespace,
  namespaceInode,
  netNamespace,
  nsproxy,
  utsNamespace,
} from "../linux/nsproxy.ts";
import { pathOf, pathOfFile } from "../linux/path.ts";
import { isNull, plus, readNumber, readPointer } from "../linux/read.ts";
import { DEFAULT_PRIO, PF_KTHREAD, signalStruct, TASK_COMM_LEN, taskStruct } from "../linux/task-struct.ts";
import { stateLetter, walkProcesses } from "../linux/tasks.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { CELL, type IntegerColumn, type TextColumn } from "./columns.ts";
import { defineTable, integer, type TableContext, text, type Writers } from "./table.ts";

const columns = {
  pid: integer("Process (thread group) id in the initial pid namespace", { key: true }),
  parent: integer("Process id of the parent"),
  name: text("The name that the kernel keeps (comm), at most 15 bytes"),
  path: text("Path of the executable, as the process's mount namespace sees it"),
  on_disk: integer("1 when the executable's path still exists, 0 when it has been deleted"),
  cmdline: text("Arguments, separated by spaces"),
  state: text("R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, X dead, P parked, I idle"),
  cwd: text("Working directory"),
  root: text("Root directory"),
  uid: integer("Real user id"),
  gid: integer("Real group id"),
  euid: integer("Effective user id"),
  egid: integer("Effective group id"),
  suid: integer("Saved user id"),
  sgid: integer("Saved group id"),
  start_time: integer("When it started, seconds since 1970"),
  resident_size: integer("Resident memory, bytes"),
  total_size: integer("Virtual memory, bytes"),
  threads: integer("Number of threads"),
  nice: integer("Nice value, -20 to 19"),
  kernel_thread: integer("1 for a thread of the kernel's own"),
  cgroup_path: text("Path in the unified cgroup hierarchy"),
  cgroup_namespace: integer("Inode of the cgroup namespace"),
  ipc_namespace: integer("Inode of the IPC namespace"),
  mnt_namespace: integer("Inode of the mount namespace"),
  net_namespace: integer("Inode of the network namespace"),
  uts_namespace: integer("Inode of the UTS namespace"),
  task: text("Address of the task_struct"),
};

/** One row a thread group: the task list, as `ps` would show it if nothing in the guest lied. */
export const processes = defineTable({
  name: "processes",
  description: "All running processes, from the kernel's task list",
  columns,
  cost: "walk",
  examples: [
    "SELECT pid, name, cmdline FROM processes WHERE uid = 0",
    "SELECT pid, path FROM processes WHERE on_disk = 0",
  ],
  generate: (context, out) => {
    const { kernel } = context;
    const list = walkProcesses(kernel, context.budget);
    context.retried(list.retried);
    if (!list.complete) context.incomplete("the task list could not be followed to its end");
    const wanted = context.keys("pid");
    const write = rowWriter(kernel, out);
    for (let i = 0; i < list.count; i++) {
      context.budget.spend();
      const outcome = writeStable(context, write, list.hi[i]!, list.lo[i]!, wanted);
      if (outcome === STOP) return;
    }
  },
});

const STOP = 1;
const GO_ON = 0;
const ATTEMPTS = 3;

type RowWriter = (index: number, hi: number, lo: number) => void;

/** Writes one row, again when the task_struct came to be another task's meanwhile; a task that has gone has no row. */
function writeStable(
  context: TableContext,
  write: RowWriter,
  hi: number,
  lo: number,
  wanted: ReadonlySet<number> | undefined,
): number {
  const { kernel } = context;
  const task = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const index = kernel.space.borrow(hi, lo, task.sizeof);
    if (index < 0) {
      context.incomplete("a task on the list could not be read");
      return GO_ON;
    }
    const pid = view.getInt32(index + task.tgid, true);
    if (wanted !== undefined && !wanted.has(pid)) return GO_ON;
    const startLo = view.getInt32(index + task.start_boottime, true);
    write(index, hi, lo);
    // In place, this looks at the guest again; a copy was taken at one instant and agrees with itself.
    if (
      view.getInt32(index + task.tgid, true) === pid &&
      view.getInt32(index + task.start_boottime, true) === startLo
    ) {
      return context.row() ? GO_ON : STOP;
    }
    context.discard();
    context.retried(1);
  }
  return GO_ON;
}

/** The row of the task_struct at `index` of the view, with the offsets bound once. Only what is asked for is read. */
function rowWriter(kernel: Kernel, out: Writers<typeof columns>): RowWriter {
  const task = kernel.layout(taskStruct);
  const ids = kernel.layout(cred);
  const { view, bytes } = kernel.memory;
  const { space } = kernel;
  const credEnd = Math.max(ids.uid, ids.gid, ids.suid, ids.sgid, ids.euid, ids.egid) + 4;
  const { pid, parent, name, state, nice, task: taskColumn, kernel_thread: kernelThread } = out;
  const credColumns = credentialColumns(out, ids);
  const rest = restWriter(kernel, out);
  return (index, hi, lo) => {
    pid?.push(view.getInt32(index + task.tgid, true));
    if (parent !== undefined) {
      const at = index + task.real_parent;
      const tgid = addLo(view.getInt32(at, true), task.tgid);
      const real = space.resolve(addHi(view.getInt32(at + 4, true), view.getInt32(at, true), task.tgid), tgid);
      if (real < 0) parent.absent(CELL.unreadable);
      else parent.push(view.getInt32(real, true));
    }
    name?.pushUntilZero(bytes, index + task.comm, TASK_COMM_LEN);
    state?.pushCode(stateLetter(view.getInt32(index + task.state, true), view.getInt32(index + task.exit_state, true)));
    if (credColumns.length > 0) {
      const at = index + task.real_cred;
      const base = space.borrow(view.getInt32(at + 4, true), view.getInt32(at, true), credEnd);
      for (const { column, offset } of credColumns) {
        if (base < 0) column.absent(CELL.unreadable);
        else column.push(view.getUint32(base + offset, true));
      }
    }
    nice?.push(view.getInt32(index + task.static_prio, true) - DEFAULT_PRIO);
    kernelThread?.push((view.getInt32(index + task.flags, true) & PF_KTHREAD) === 0 ? 0 : 1);
    taskColumn?.pushAddress(hi, lo);
    rest?.({ hi, lo }, index);
  };
}

function credentialColumns(
  out: Writers<typeof columns>,
  ids: Record<"uid" | "gid" | "euid" | "egid" | "suid" | "sgid", number>,
) {
  const wanted: { column: IntegerColumn; offset: number }[] = [];
  for (const key of ["uid", "gid", "euid", "egid", "suid", "sgid"] as const) {
    const column = out[key];
    if (column !== undefined) wanted.push({ column, offset: ids[key] });
  }
  return wanted;
}

type PartWriter = (at: Halves, index: number) => void;

/** The columns that lead away from the task_struct; undefined when none of them is asked for. */
function restWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const parts = [memoryWriter, signalWriter, startWriter, directoryWriter, namespaceWriter, cgroupWriter]
    .map((make) => make(kernel, out))
    .filter((part) => part !== undefined);
  if (parts.length === 0) return undefined;
  return (at, index) => {
    for (const part of parts) part(at, index);
  };
}

function memoryWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const { path, on_disk, cmdline, resident_size, total_size } = out;
  const wanted = [path, on_disk, cmdline, resident_size, total_size].filter((column) => column !== undefined);
  if (wanted.length === 0) return undefined;
  const task = kernel.layout(taskStruct);
  const mm = kernel.layout(mmStruct);
  const { view } = kernel.memory;
  return (_, index) => {
    const at = { hi: view.getInt32(index + task.mm + 4, true), lo: view.getInt32(index + task.mm, true) };
    if (isNull(at)) {
      for (const column of wanted) column.absent(CELL.notApplicable);
      return;
    }
    if (path !== undefined || on_disk !== undefined) {
      const exe = readPointer(kernel.space, at, mm.exe_file);
      const resolved = exe && pathOfFile(kernel, exe);
      path?.pushOr(resolved?.bytes, CELL.unreadable);
      on_disk?.pushOr(resolved && (resolved.deleted ? 0 : 1), CELL.unreadable);
    }
    cmdline?.pushOr(spaced(readArguments(kernel, at)), CELL.unreadable);
    const resident = resident_size && residentPages(kernel, at);
    resident_size?.pushOr(resident && resident * 4096, CELL.unreadable);
    const total = total_size && readNumber(kernel.space, at, mm.total_vm);
    total_size?.pushOr(total && total * 4096, CELL.unreadable);
  };
}

/** Arguments end with zeros; as one line they are separated by spaces. */
function spaced(args: Uint8Array | undefined): Uint8Array | undefined {
  if (args === undefined) return undefined;
  let end = args.length;
  while (end > 0 && args[end - 1] === 0) end--;
  return args.subarray(0, end).map((byte) => (byte === 0 ? 0x20 : byte));
}

function signalWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const { threads } = out;
  if (threads === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  const { nr_threads } = kernel.layout(signalStruct);
  const { view } = kernel.memory;
  return (_, index) => {
    const at = { hi: view.getInt32(index + task.signal + 4, true), lo: view.getInt32(index + task.signal, true) };
    const base = kernel.space.borrow(addHi(at.hi, at.lo, nr_threads), addLo(at.lo, nr_threads), 4);
    threads.pushOr(base < 0 ? undefined : view.getInt32(base, true), CELL.unreadable);
  };
}

function startWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const { start_time } = out;
  if (start_time === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const boot = clockOf(kernel)?.bootNanoseconds;
  return (_, index) => {
    const at = index + task.start_boottime;
    const since = numberOf(view.getInt32(at + 4, true), view.getInt32(at, true));
    start_time.pushOr(boot && Math.floor((boot + since) / 1e9), CELL.unreadable);
  };
}

function directoryWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const { cwd, root } = out;
  if (cwd === undefined && root === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  const directories = kernel.layout(fsStruct);
  return (at) => {
    const fs = readPointer(kernel.space, at, task.fs);
    const write = (column: TextColumn | undefined, offset: number) => {
      if (fs === undefined || isNull(fs)) column?.absent(CELL.notApplicable);
      else column?.pushOr(pathOf(kernel, plus(fs, offset))?.bytes, CELL.unreadable);
    };
    write(cwd, directories.pwd);
    write(root, directories.root);
  };
}

function namespaceWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const proxy = kernel.layout(nsproxy);
  const members = [
    { column: out.cgroup_namespace, member: proxy.cgroup_ns, spec: cgroupNamespace },
    { column: out.ipc_namespace, member: proxy.ipc_ns, spec: ipcNamespace },
    { column: out.mnt_namespace, member: proxy.mnt_ns, spec: mntNamespace },
    { column: out.net_namespace, member: proxy.net_ns, spec: netNamespace },
    { column: out.uts_namespace, member: proxy.uts_ns, spec: utsNamespace },
  ].filter(({ column }) => column !== undefined);
  if (members.length === 0) return undefined;
  const task = kernel.layout(taskStruct);
  return (at) => {
    const proxyAt = readPointer(kernel.space, at, task.nsproxy);
    for (const { column, member, spec } of members) {
      // A task that is exiting has given its namespaces up.
      if (proxyAt === undefined || isNull(proxyAt)) column?.absent(CELL.notApplicable);
      else column?.pushOr(namespaceInode(kernel, proxyAt, member, kernel.layout(spec).inum), CELL.unreadable);
    }
  };
}

function cgroupWriter(kernel: Kernel, out: Writers<typeof columns>): PartWriter | undefined {
  const { cgroup_path } = out;
  if (cgroup_path === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  return (at) => {
    const set = readPointer(kernel.space, at, task.cgroups);
    cgroup_path.pushOr(set && cgroupPath(kernel, set), CELL.unreadable);
  };
}
