import { PAGE_SIZE } from "../bytes/address.ts";
import { addFiles, type MiniFiles } from "./mini-files.ts";
import { addHooks, type MiniHooks } from "./mini-hooks.ts";
import { MiniKernel, type MiniKernelOptions, Thing } from "./mini-kernel.ts";
import { addNetwork, type MiniNetwork } from "./mini-network.ts";
import { addModule, addProcess, addResource, addThread, type Process } from "./mini-objects.ts";
import { addSystem, type MiniSystem } from "./mini-system.ts";
import { addTaskViews } from "./mini-task-views.ts";
import { addTracing, type MiniTracing } from "./mini-tracing.ts";
import { type Mount, makeFile, makeMount, makePath } from "./mini-vfs.ts";
import type { Ram } from "./ram.ts";

export interface MiniGuest {
  readonly kernel: MiniKernel;
  readonly root: Mount;
  readonly init: Process;
  readonly shell: Process;
  readonly kthread: Process;
  readonly tracing: MiniTracing;
  readonly hooks: MiniHooks;
  readonly network: MiniNetwork;
  readonly files: MiniFiles;
  readonly system: MiniSystem;
}

/** A made-up guest in use: every table has something to say of it. */
export function miniGuest(options: MiniKernelOptions = {}, ram?: Ram): MiniGuest {
  const kernel = new MiniKernel(options, ram);
  const root = makeMount(kernel);
  const namespaces = makeNamespaces(kernel);
  const directory = (path: string) => ({ mnt: root.mnt, dentry: makePath(kernel, root, path).va });
  const enter = (process: Process, cwd: string) => {
    const fs = kernel.make("fs_struct");
    const pwd = directory(cwd);
    fs.setAll({ "root.mnt": root.mnt, "root.dentry": root.root.va, "pwd.mnt": pwd.mnt, "pwd.dentry": pwd.dentry });
    process.task.setAll({ fs: fs.va, nsproxy: namespaces.va, cgroups: makeCgroup(kernel, ["init.scope"]).va });
  };
  const exe = (path: string) => makeFile(kernel, root, makePath(kernel, root, path));
  const init = addProcess(kernel, {
    pid: 1,
    comm: "init",
    memory: {
      exe: exe("/sbin/init"),
      args: "/sbin/init\0--quiet\0",
      env: "HOME=/\0TERM=linux\0",
      resident: [100, 20, 9, 3],
      total: 500,
    },
  });
  enter(init, "/");
  const kthread = addProcess(kernel, { pid: 2, comm: "kthreadd", state: 0x402, started: 1, nice: -20 });
  kthread.task.set("cgroups", makeCgroup(kernel, []).va);
  const shell = addProcess(kernel, {
    pid: 300,
    comm: "a-shell",
    parent: init.task,
    state: 0,
    ids: [1000, 1001, 1002, 1003, 1004, 4294967294],
    started: 70,
    nice: 5,
    traced: true,
    memory: { exe: exe("/usr/bin/a-shell"), args: "-a-shell\0", env: "PATH=/bin:/usr/bin\0NOVALUE\0EMPTY=\0" },
  });
  enter(shell, "/home/user");
  const worker = addThread(kernel, shell, { pid: 301, comm: "worker", state: 2, started: 71 });
  useUp(shell, worker);
  const first = addModule(kernel, { name: "alpha", text: 0xffff_ffff_c100_0000n, sizes: [4096, 8192], references: 1 });
  addModule(kernel, { name: "beta", sizes: [100], taints: 0x3000, version: "1.2", users: [first], permanent: true });
  const ramAt = addResource(kernel, kernel.iomem, "System RAM", 0x10_0000n, 0xdf_ffffn);
  addResource(kernel, ramAt, "Kernel code", 0x20_0000n, 0x2f_ffffn);
  addResource(kernel, kernel.iomem, "PCI Bus 0000:00", 0xe0_0000n, 0xff_ffffn);
  const tracing = addTracing(kernel);
  const hooks = addHooks(kernel, first);
  addFirmware(kernel);
  const thing = (member: string, type: string) =>
    new Thing(kernel, kernel.types.of[type]!, kernel.readPointer(namespaces.at(member)));
  const net = thing("net_ns", "net");
  const network = addNetwork(kernel, net.va, [init.task, shell.task]);
  const files = addFiles(kernel, root, thing("mnt_ns", "mnt_namespace"), shell);
  const system = addSystem(kernel, net, hooks.callbacks[0]!);
  addTaskViews(kernel, [init.task, kthread.task, shell.task, worker]);
  kernel.finish();
  return { kernel, root, init, shell, kthread, tracing, hooks, network, files, system };
}

const MS = 1_000_000;

/** What a process has used: a thread that has ended, its first and its second one; ticks are not what was measured. */
function useUp({ task, signal, mm }: Process, worker: Thing): void {
  signal.setAll({ utime: 40 * MS, stime: 4 * MS, sum_sched_runtime: 50 * MS });
  task.setAll({ utime: 8 * MS, stime: 12 * MS, "se.sum_exec_runtime": 30 * MS });
  worker.setAll({ utime: 12 * MS, stime: 4 * MS, "se.sum_exec_runtime": 20 * MS });
  signal.setAll({ "ioac.read_bytes": 4096, "ioac.write_bytes": 8192 });
  task.setAll({ "ioac.read_bytes": 100, "ioac.cancelled_write_bytes": 512 });
  worker.setAll({ "ioac.write_bytes": 1024 });
  mm?.set("locked_vm", 3);
}

function makeNamespaces(kernel: MiniKernel): Thing {
  const of = (type: string, inum: number) => kernel.make(type).set("ns.inum", inum).va;
  return kernel.make("nsproxy").setAll({
    uts_ns: kernel.uts.va,
    ipc_ns: of("ipc_namespace", 4026531839),
    mnt_ns: of("mnt_namespace", 4026531841),
    net_ns: of("net", 4026531840),
    pid_ns_for_children: kernel.pidNamespace.va,
    time_ns: of("time_namespace", 4026531834),
    time_ns_for_children: of("time_namespace", 4026532100),
    cgroup_ns: of("cgroup_namespace", 4026531835),
  });
}

/** What firmware tells of two processors (SMBIOS): a structure that is none of one is in front. */
function addFirmware(kernel: MiniKernel): void {
  const structure = (type: number, body: Buffer, ...strings: string[]) => [
    Buffer.from([type, body.length + 4, 0, 0]),
    body,
    Buffer.from(strings.length === 0 ? "\0\0" : `${strings.join("\0")}\0\0`),
  ];
  const processor = (socket: number, status: number, mhz: number) => {
    const body = Buffer.alloc(0x26);
    body.set([socket, 3], 0);
    body.writeUInt16LE(mhz, 0x10);
    body[0x14] = status;
    return body;
  };
  const table = Buffer.concat([
    ...structure(1, Buffer.alloc(4)),
    ...structure(4, processor(2, 0x41, 2000), "made up", "CPU 0 "),
    ...structure(4, processor(1, 0x40, 0), "CPU 1"),
    ...structure(127, Buffer.alloc(0)),
    ...structure(4, processor(1, 0x41, 1), "behind the end"),
  ]);
  // Over the end of a page.
  const gpa = kernel.ram.take(2 * PAGE_SIZE) + PAGE_SIZE - 20;
  kernel.ram.bytes.set(table, gpa);
  kernel.writeInteger(kernel.image("dmi_base", 8), gpa, 8);
  kernel.writeInteger(kernel.image("dmi_len", 4), table.length, 4);
}

/** A css_set whose cgroup has this path below the root. */
export function makeCgroup(kernel: MiniKernel, path: readonly string[]): Thing {
  const parentName = kernel.options.flavour === "6.1" ? "parent" : "__parent";
  let node = kernel.make("kernfs_node").set("name", kernel.string(""));
  for (const name of path) {
    node = kernel.make("kernfs_node").setAll({ [parentName]: node.va, name: kernel.string(name) });
  }
  const cgroup = kernel.make("cgroup").set("kn", node.va);
  return kernel.make("css_set").set("dfl_cgrp", cgroup.va);
}
