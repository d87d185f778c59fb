import { addHi, addLo, type Halves, numberOf } from "../bytes/address.ts";
import { product } from "../bytes/integer.ts";
import { cgroupPath } from "../linux/cgroup.ts";
import { cred } from "../linux/cred.ts";
import { follow } from "../linux/follow.ts";
import { fsStruct } from "../linux/fs-struct.ts";
import type { Kernel } from "../linux/kernel.ts";
import { Memo } from "../linux/memo.ts";
import { mmStruct, readArguments, residentCounter } from "../linux/mm.ts";
import {
  cgroupNamespace,
  ipcNamespace,
  mntNamespace,
  namespaceInode,
  netNamespace,
  nsproxy,
  utsNamespace,
} from "../linux/nsproxy.ts";
import { Paths } from "../linux/path.ts";
import { globalNumber, PIDTYPE_PGID } from "../linux/pid.ts";
import { isNull, plus, readNumber, readPointer, readU32 } from "../linux/read.ts";
import { PF_KTHREAD, signalStruct, taskStruct } from "../linux/task-struct.ts";
import { diskUsage, processorTime } from "../linux/task-usage.ts";
import { walkProcesses } from "../linux/tasks.ts";
import { clockOf } from "../linux/timekeeping.ts";
import { CELL, type IntegerColumn } from "./columns.ts";
import { defineTable, integer, type TableContext, text, type Writers } from "./table.ts";
import { type BlockWriter, commonWriters, int32Writer, writeTasks } from "./task-rows.ts";

const columns = {
  pid: integer("Process (thread group) id in the initial pid namespace", { key: true }),
  name: text("The name that the kernel keeps (comm), at most 15 bytes"),
  path: text("Path of the executable, as the process's mount namespace sees it"),
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
  on_disk: integer("1 when the executable's path still exists, 0 when it has been deleted"),
  wired_size: integer("Memory that must stay resident (mlock), bytes"),
  resident_size: integer(
    "Resident memory, bytes: VmRSS of /proc/PID/status, with what CPUs have yet to add up, which older kernels from 6.2 on leave out there",
  ),
  total_size: integer("Virtual memory, bytes"),
  user_time: integer("Processor time in user space of all its threads, milliseconds"),
  system_time: integer("Processor time in the kernel of all its threads, milliseconds"),
  disk_bytes_read: integer("Bytes that it caused to be read from disks"),
  disk_bytes_written: integer("Bytes that it caused to be written to disks, without those that were dropped again"),
  start_time: integer("When it started, seconds since 1970"),
  parent: integer("Process id of the parent"),
  pgroup: integer("Process group"),
  threads: integer("Number of threads"),
  nice: integer("Nice value, -20 to 19"),
  cgroup_path: text("Path in the unified cgroup hierarchy"),
  elapsed_time: integer("Seconds since it started, as of the guest's last tick"),
  kernel_thread: integer("1 for a thread of the kernel's own"),
  cwd_deleted: integer(
    "1 when the working directory has been removed: /proc/PID/cwd has (deleted) behind the path then",
  ),
  root_deleted: integer("The same of the root directory"),
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
  reads: [
    "init_task",
    "task_struct",
    "cred",
    "mm_struct",
    "signal_struct, task_io_accounting, pid",
    "fs_struct",
    "nsproxy",
    "css_set",
    "tk_core (for elapsed_time)",
  ],
  examples: [
    "SELECT pid, name, cmdline FROM processes WHERE uid = 0",
    "SELECT pid, path FROM processes WHERE on_disk = 0",
  ],
  generate: (context, out) => {
    const { kernel } = context;
    const since = performance.now();
    const list = walkProcesses(kernel, context.budget);
    context.retried(list.retried);
    if (!list.complete) context.incomplete("the task list could not be followed to its end");
    const rest = [memoryWriter, usageWriter, signalWriter, directoryWriter, namespaceWriter, cgroupWriter];
    writeTasks(context, { ...list, since, leaders: true }, context.keys("pid"), [
      ...int32Writer(kernel, out.pid, kernel.layout(taskStruct).tgid),
      ...parentWriter(kernel, out),
      ...elapsedWriter(kernel, out),
      ...commonWriters(kernel, out),
      ...credentialWriter(kernel, out),
      ...rest.flatMap((make) => rowByRow(make(context, out))),
    ]);
  },
});

function parentWriter(kernel: Kernel, out: Writers<typeof columns>): BlockWriter[] {
  const { parent } = out;
  if (parent === undefined) return [];
  const { real_parent, tgid } = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const { space } = kernel;
  return [
    ({ base, count }) => {
      // Few tasks are the parents of many, and siblings are neighbours on the list.
      let [lastHi, lastLo, last] = [0, 0, -1];
      for (let i = 0; i < count; i++) {
        const at = base[i]! + real_parent;
        const lo = view.getInt32(at, true);
        const hi = view.getInt32(at + 4, true);
        if (lo !== lastLo || hi !== lastHi || last < 0) {
          [lastHi, lastLo] = [hi, lo];
          const index = space.resolve(addHi(hi, lo, tgid), addLo(lo, tgid));
          last = index < 0 ? -1 : view.getInt32(index, true);
        }
        if (last < 0) parent.absent(CELL.unreadable);
        else parent.push(last);
      }
    },
  ];
}

function elapsedWriter(kernel: Kernel, out: Writers<typeof columns>): BlockWriter[] {
  const { elapsed_time } = out;
  if (elapsed_time === undefined) return [];
  const { start_boottime } = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const uptime = clockOf(kernel)?.uptimeNanoseconds;
  return [
    ({ base, count }) => {
      for (let i = 0; i < count; i++) {
        const at = base[i]! + start_boottime;
        const started = numberOf(view.getInt32(at + 4, true), view.getInt32(at, true));
        // One that started since the last tick.
        const elapsed = uptime && Math.max(0, Math.floor((uptime - started) / 1e9));
        elapsed_time.pushOr(elapsed, CELL.unreadable);
      }
    },
  ];
}

function credentialWriter(kernel: Kernel, out: Writers<typeof columns>): BlockWriter[] {
  const { uid, gid, suid, sgid, euid, egid } = kernel.layout(cred);
  return [
    ...idWriter(kernel, out.uid, uid),
    ...idWriter(kernel, out.gid, gid),
    ...idWriter(kernel, out.suid, suid),
    ...idWriter(kernel, out.sgid, sgid),
    ...idWriter(kernel, out.euid, euid),
    ...idWriter(kernel, out.egid, egid),
  ];
}

/** @param offset of a 32-bit member of struct cred */
function idWriter(kernel: Kernel, column: IntegerColumn | undefined, offset: number): BlockWriter[] {
  if (column === undefined) return [];
  const { real_cred } = kernel.layout(taskStruct);
  const { view } = kernel.memory;
  const { space } = kernel;
  return [
    ({ base, count }) => {
      for (let i = 0; i < count; i++) {
        const at = base[i]! + real_cred;
        const lo = view.getInt32(at, true);
        const index = space.resolve(addHi(view.getInt32(at + 4, true), lo, offset), addLo(lo, offset));
        if (index < 0) column.absent(CELL.unreadable);
        else column.push(view.getUint32(index, true));
      }
    },
  ];
}

/** Writes columns that lead far from the task_struct: its address, and its index in the view. */
type PartWriter = (at: Halves, index: number) => void;

function rowByRow(part: PartWriter | undefined): BlockWriter[] {
  if (part === undefined) return [];
  return [
    ({ base, hi, lo, count }) => {
      for (let i = 0; i < count; i++) part({ hi: hi[i]!, lo: lo[i]! }, base[i]!);
    },
  ];
}

function memoryWriter({ kernel, budget }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
  const { path, on_disk, cmdline, wired_size, resident_size, total_size } = out;
  const wanted = [path, on_disk, cmdline, wired_size, resident_size, total_size].filter(
    (column) => column !== undefined,
  );
  if (wanted.length === 0) return undefined;
  const task = kernel.layout(taskStruct);
  const mm = kernel.layout(mmStruct);
  const { view } = kernel.memory;
  const paths = new Paths(kernel, budget);
  const residentOf = resident_size && residentCounter(kernel, budget);
  return (taskAt, index) => {
    // The kernel's own threads have none, and never get any.
    const none = view.getInt32(index + task.mm + 4, true) === 0 && view.getInt32(index + task.mm, true) === 0;
    if (none && (view.getUint32(index + task.flags, true) & PF_KTHREAD) !== 0) {
      for (const column of wanted) column.absent(CELL.notApplicable);
      return;
    }
    const found = follow(kernel, taskAt, task.mm, budget, (at) => {
      const exe = path || on_disk ? readPointer(kernel.space, at, mm.exe_file) : undefined;
      return {
        exe: exe && paths.ofFile(exe),
        args: cmdline && spaced(readArguments(kernel, at, budget)),
        wired: wired_size && mm.locked_vm >= 0 ? readNumber(kernel.space, at, mm.locked_vm) : undefined,
        resident: residentOf?.(at),
        total: total_size && readNumber(kernel.space, at, mm.total_vm),
      };
    });
    if (typeof found === "string") {
      for (const column of wanted) column.absent(CELL_OF[found]);
      return;
    }
    const { exe, args, wired, resident, total } = found.value;
    path?.pushOr(exe?.bytes, CELL.unreadable);
    on_disk?.pushOr(exe && (exe.deleted ? 0 : 1), CELL.unreadable);
    cmdline?.pushOr(args, CELL.unreadable);
    wired_size?.pushOr(wired && wired * 4096, mm.locked_vm < 0 ? CELL.unsupported : CELL.unreadable);
    resident_size?.pushOr(resident && resident * 4096, CELL.unreadable);
    // With 57-bit paging it may be more than a number holds.
    total_size?.pushOr(total && product(total, 4096), CELL.unreadable);
  };
}

/** A process whose threads all exit has given up its memory, directories and namespaces. */
const CELL_OF = { null: CELL.notApplicable, unreadable: CELL.unreadable, torn: CELL.torn } as const;

/** Arguments end with zeros; as one line, which takes their place, they are separated by spaces. */
function spaced(args: Uint8Array | undefined): Uint8Array | undefined {
  if (args === undefined) return undefined;
  let end = args.length;
  while (end > 0 && args[end - 1] === 0) end--;
  for (let at = args.indexOf(0); at >= 0 && at < end; at = args.indexOf(0, at + 1)) args[at] = 0x20;
  return args.subarray(0, end);
}

function usageWriter({ kernel, budget }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
  const { user_time, system_time, disk_bytes_read, disk_bytes_written } = out;
  const times = user_time ?? system_time;
  const disk = disk_bytes_read ?? disk_bytes_written;
  if (times === undefined && disk === undefined) return undefined;
  return (at) => {
    const time = times && processorTime(kernel, at, budget);
    user_time?.pushOr(time?.user, CELL.unreadable);
    system_time?.pushOr(time?.system, CELL.unreadable);
    const moved = disk && diskUsage(kernel, at, budget);
    const bytes = moved === "unsupported" ? undefined : moved;
    const state = moved === "unsupported" ? CELL.unsupported : CELL.unreadable;
    disk_bytes_read?.pushOr(bytes?.read, state);
    disk_bytes_written?.pushOr(bytes?.written, state);
  };
}

function signalWriter({ kernel }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
  const { threads, pgroup } = out;
  if (threads === undefined && pgroup === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  const { nr_threads, pids } = kernel.layout(signalStruct);
  const { view } = kernel.memory;
  const { space } = kernel;
  return (_, index) => {
    const at = { hi: view.getInt32(index + task.signal + 4, true), lo: view.getInt32(index + task.signal, true) };
    threads?.pushOr(readU32(space, at, nr_threads), CELL.unreadable);
    if (pgroup === undefined) return;
    const group = readPointer(space, at, pids + PIDTYPE_PGID * 8);
    pgroup.pushOr(group && groupNumber(kernel, group), CELL.unreadable);
  };
}

/** A task that is being released is in none; the kernel's own threads are in one whose number is 0. */
function groupNumber(kernel: Kernel, group: Halves): number | undefined {
  return isNull(group) ? 0 : globalNumber(kernel, group);
}

function directoryWriter({ kernel, budget }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
  const { cwd, root, cwd_deleted, root_deleted } = out;
  const wanted = [cwd, root, cwd_deleted, root_deleted].filter((column) => column !== undefined);
  if (wanted.length === 0) return undefined;
  const task = kernel.layout(taskStruct);
  const { pwd, root: rootMember } = kernel.layout(fsStruct);
  const paths = new Paths(kernel, budget);
  return (taskAt) => {
    const found = follow(kernel, taskAt, task.fs, budget, (fs) => ({
      working: (cwd ?? cwd_deleted) && paths.of(plus(fs, pwd)),
      top: (root ?? root_deleted) && paths.of(plus(fs, rootMember)),
    }));
    if (typeof found === "string") {
      for (const column of wanted) column.absent(CELL_OF[found]);
      return;
    }
    const { working, top } = found.value;
    cwd?.pushOr(working?.bytes, CELL.unreadable);
    root?.pushOr(top?.bytes, CELL.unreadable);
    cwd_deleted?.pushOr(working && Number(working.deleted), CELL.unreadable);
    root_deleted?.pushOr(top && Number(top.deleted), CELL.unreadable);
  };
}

function namespaceWriter({ kernel, budget }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
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
    const found = follow(kernel, at, task.nsproxy, budget, (proxyAt) =>
      members.map(({ member, spec }) => namespaceInode(kernel, proxyAt, member, kernel.layout(spec).inum)),
    );
    members.forEach(({ column }, i) => {
      if (typeof found === "string") column?.absent(CELL_OF[found]);
      else column?.pushOr(found.value[i], CELL.unreadable);
    });
  };
}

function cgroupWriter({ kernel, budget }: TableContext, out: Writers<typeof columns>): PartWriter | undefined {
  const { cgroup_path } = out;
  if (cgroup_path === undefined) return undefined;
  const task = kernel.layout(taskStruct);
  const paths = new Memo<Uint8Array | undefined>(kernel);
  return (at) => {
    const found = follow(kernel, at, task.cgroups, budget, (set) =>
      paths.of(set, () => cgroupPath(kernel, set, budget)),
    );
    if (typeof found === "string") cgroup_path.absent(CELL_OF[found]);
    else cgroup_path.pushOr(found.value, CELL.unreadable);
  };
}
