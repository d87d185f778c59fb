import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "../arch/x86-64.ts";
import { attach } from "../guest.ts";
import type { PhysicalMemory } from "../memory/physical-memory.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { addModule, addProcess, addResource, addThread } from "../testing/mini-objects.ts";
import { makeFile, makePath } from "../testing/mini-vfs.ts";
import { rowsOf, type TestRow } from "../testing/rows.ts";

const none = { absent: "notApplicable" };
const unreadable = { absent: "unreadable" };
const BOOT = 1_699_999_000;

const variants = [
  { flavour: "6.1", mmu: fourLevel, encoding: "percpu" },
  { flavour: "6.13", mmu: fiveLevel, encoding: "base" },
  { flavour: "6.13", mmu: fourLevel, encoding: "place" },
] as const;

/** The rows of a table in every variant of a guest and both kinds of memory, without addresses of the kernel's own. */
function everywhere(table: string, check: (rows: TestRow[], memory: PhysicalMemory) => void): void {
  for (const variant of variants) {
    const { ram } = miniGuest(variant).kernel;
    for (const memory of [ram.mapped(), ram.paged()]) {
      const answer = attach(memory).table(table);
      assert.deepEqual([answer.retried, answer.incomplete, answer.notes], [0, false, []]);
      check(
        rowsOf(answer).map(({ task: _task, module: _module, ...row }) => row),
        memory,
      );
    }
  }
}

const one = (guest: ReturnType<typeof attach>, pid: number, columns?: string[]) =>
  rowsOf(guest.table("processes", { columns, where: [{ column: "pid", values: [String(pid)] }] }))[0]!;

test("processes", () => {
  everywhere("processes", ([init, kthread, shell, ...more]) => {
    assert.deepEqual(init, {
      pid: 1,
      parent: 0,
      name: "init",
      path: "/sbin/init",
      cmdline: "/sbin/init --quiet",
      state: "S",
      cwd: "/",
      root: "/",
      uid: 0,
      gid: 0,
      euid: 0,
      egid: 0,
      suid: 0,
      sgid: 0,
      on_disk: 1,
      wired_size: 0,
      resident_size: 123 * 4096,
      total_size: 500 * 4096,
      user_time: 0,
      system_time: 0,
      disk_bytes_read: 0,
      disk_bytes_written: 0,
      start_time: BOOT,
      pgroup: 1,
      threads: 1,
      elapsed_time: 1000,
      nice: 0,
      kernel_thread: 0,
      cwd_deleted: 0,
      root_deleted: 0,
      cgroup_path: "/init.scope",
      cgroup_namespace: 4026531835,
      ipc_namespace: 4026531839,
      mnt_namespace: 4026531841,
      net_namespace: 4026531840,
      uts_namespace: 4026531838,
    });
    assert.deepEqual(kthread, {
      ...init,
      pid: 2,
      name: "kthreadd",
      path: none,
      on_disk: none,
      cmdline: none,
      state: "I",
      cwd: none,
      root: none,
      start_time: BOOT + 1,
      elapsed_time: 999,
      pgroup: 2,
      wired_size: none,
      resident_size: none,
      total_size: none,
      nice: -20,
      kernel_thread: 1,
      cwd_deleted: none,
      root_deleted: none,
      cgroup_path: "/",
      cgroup_namespace: none,
      ipc_namespace: none,
      mnt_namespace: none,
      net_namespace: none,
      uts_namespace: none,
    });
    assert.deepEqual(shell, {
      ...init,
      pid: 300,
      parent: 1,
      name: "a-shell",
      path: "/usr/bin/a-shell",
      cmdline: "-a-shell",
      state: "R",
      cwd: "/home/user",
      uid: 1000,
      gid: 1001,
      suid: 1002,
      sgid: 1003,
      euid: 1004,
      egid: 4294967294,
      start_time: BOOT + 70,
      elapsed_time: 930,
      pgroup: 300,
      wired_size: 3 * 4096,
      resident_size: 0,
      total_size: 0,
      user_time: 75,
      system_time: 25,
      disk_bytes_read: 4196,
      disk_bytes_written: 8704,
      threads: 2,
      nice: 5,
    });
    assert.equal(more.length, 0);
  });
});

test("process_threads", () => {
  const common = { state: "S", nice: 0, kernel_thread: 0 };
  everywhere("process_threads", (rows) => {
    assert.deepEqual(rows, [
      { ...common, pid: 1, tid: 1, name: "init", start_time: BOOT },
      { pid: 2, tid: 2, name: "kthreadd", state: "I", nice: -20, kernel_thread: 1, start_time: BOOT + 1 },
      { ...common, pid: 300, tid: 300, name: "a-shell", state: "R", nice: 5, start_time: BOOT + 70 },
      { ...common, pid: 300, tid: 301, name: "worker", state: "D", start_time: BOOT + 71 },
    ]);
  });
});

test("process_namespaces", () => {
  const known = { pid_namespace: 4026531836, pid_namespace_level: 0, user_namespace: 4026531837 };
  const user = { ...known, user_namespace_level: 0, user_namespace_owner: 0 };
  const proxy = {
    cgroup_namespace: 4026531835,
    ipc_namespace: 4026531839,
    mnt_namespace: 4026531841,
    net_namespace: 4026531840,
    uts_namespace: 4026531838,
    time_namespace: 4026531834,
    pid_namespace_for_children: 4026531836,
    time_namespace_for_children: 4026532100,
  };
  everywhere("process_namespaces", (rows) => {
    const told = rows.map(({ nsproxy, ...row }) => [row, typeof nsproxy === "string"]);
    const gone = Object.fromEntries(Object.keys(proxy).map((name) => [name, none]));
    assert.deepEqual(told, [
      [{ ...user, ...proxy, pid: 1, pid_in_namespace: 1 }, true],
      [{ ...user, ...gone, pid: 2, pid_in_namespace: 2 }, false],
      [{ ...user, ...proxy, pid: 300, pid_in_namespace: 300 }, true],
    ]);
  });
});

test("processor time does not go back from what was told before", () => {
  const { kernel, shell } = miniGuest();
  const guest = attach(kernel.ram.mapped());
  const told = (user: number, system: number) => {
    shell.signal.setAll({ "prev_cputime.utime": user * 1e6, "prev_cputime.stime": system * 1e6 });
    return one(guest, 300, ["user_time", "system_time"]);
  };
  assert.deepEqual(told(80, 10), { user_time: 80, system_time: 20 });
  assert.deepEqual(told(10, 30), { user_time: 70, system_time: 30 });
  assert.deepEqual(told(90, 20), { user_time: 90, system_time: 20 });
});

test("process_envs", () => {
  everywhere("process_envs", (rows) => {
    assert.deepEqual(rows, [
      { pid: 1, key: "HOME", value: "/" },
      { pid: 1, key: "TERM", value: "linux" },
      { pid: 300, key: "PATH", value: "/bin:/usr/bin" },
      { pid: 300, key: "NOVALUE", value: "" },
      { pid: 300, key: "EMPTY", value: "" },
    ]);
  });
  const guest = attach(miniGuest().kernel.ram.mapped());
  const where = [{ column: "key", values: ["TERM", "NOVALUE", "NOVALUE="] }];
  assert.deepEqual(rowsOf(guest.table("process_envs", { where, columns: ["pid", "value"] })), [
    { pid: 1, value: "linux" },
    { pid: 300, value: "" },
  ]);
});

test("kernel_modules", () => {
  everywhere("kernel_modules", (rows) => {
    const common = { status: "Live", source_version: none };
    const told = rows.map(({ text_size: _, sha256: __, ...row }) => row);
    assert.deepEqual(told, [
      {
        ...common,
        name: "alpha",
        size: 12288,
        used_by: "-",
        address: "0xffffffffc1000000",
        references: 1,
        taints: "",
        version: none,
      },
      {
        ...common,
        name: "beta",
        size: 100,
        used_by: "alpha,[permanent],",
        address: "0x0000000000000000",
        references: 0,
        taints: "OE",
        version: "1.2",
      },
    ]);
  });
});

test("kernel_info", () => {
  everywhere("kernel_info", ([row], memory) => {
    const { kernel } = attach(memory);
    assert.deepEqual(row, {
      version: "6.13.0-mini",
      arguments: "root=/dev/vda quiet",
      path: none,
      device: "/dev/vda",
      build: "#1 SMP",
      banner: "Linux version 6.13.0-mini (made up) #1 SMP",
      build_id: "0123456789abcdef0123456789abcdef01234567",
      hostname: "mini",
      machine: "x86_64",
      boot_time: BOOT,
      uptime: 1000,
      time: BOOT + 1000,
      kaslr_offset: "0x12000000",
      phys_base: `-0x${(-kernel.physBase).toString(16)}`,
      paging: kernel.space.mmu.name,
    });
  });
});

test("memory_map", () => {
  everywhere("memory_map", (rows) => {
    assert.deepEqual(rows, [
      { name: "System RAM", start: "0x100000", end: "0xdfffff", depth: 0, size: 0xd0_0000 },
      { name: "Kernel code", start: "0x200000", end: "0x2fffff", depth: 1, size: 0x10_0000 },
      { name: "PCI Bus 0000:00", start: "0xe00000", end: "0xffffff", depth: 0, size: 0x20_0000 },
    ]);
  });
});

test("addresses are those of the structures", () => {
  const { kernel, shell } = miniGuest();
  const guest = attach(kernel.ram.mapped());
  assert.equal(one(guest, 300).task, `0x${shell.task.va.toString(16)}`);
  const first = kernel.readPointer(kernel.modules) - BigInt(kernel.types.of.module!.members.get("list")!.offset);
  assert.equal(rowsOf(guest.table("kernel_modules"))[0]!.module, `0x${first.toString(16)}`);
});

test("names of every length, and of any bytes", () => {
  const { kernel } = miniGuest();
  const names = ["", "x", "sixteen-bytes-xx", "fifteen-bytes-x", "\xff\xfe \n"];
  names.forEach((comm, i) => {
    addProcess(kernel, { pid: 1000 + i, comm });
  });
  const guest = attach(kernel.ram.mapped());
  const rows = rowsOf(guest.table("processes", { columns: ["name"] })).slice(3);
  assert.deepEqual(
    rows.map(({ name }) => name),
    names,
  );
});

test("a program that was deleted, one that can't be read, and structures that can't be read", () => {
  const { kernel, root, shell } = miniGuest();
  const dentry = makePath(kernel, root, "/tmp/gone").set("d_hash.pprev", 0);
  addProcess(kernel, { pid: 400, comm: "gone", memory: { exe: makeFile(kernel, root, dentry), args: "gone\0" } });
  addProcess(kernel, { pid: 401, comm: "none", memory: { args: "none\0" } });
  const guest = attach(kernel.ram.mapped());
  const columns = ["path", "on_disk"];
  assert.deepEqual(one(guest, 400, columns), { path: "/tmp/gone", on_disk: 0 });
  assert.deepEqual(one(guest, 401, columns), { path: unreadable, on_disk: unreadable });
  const working =
    kernel.readPointer(shell.task.at("fs")) + BigInt(kernel.types.of.fs_struct!.members.get("pwd.dentry")!.offset);
  const home = kernel.readPointer(working);
  kernel.writeInteger(working, dentry.va, 8);
  const directories = ["cwd", "root", "cwd_deleted", "root_deleted"];
  const moved = { cwd: "/tmp/gone", root: "/", cwd_deleted: 1, root_deleted: 0 };
  assert.deepEqual(one(guest, 300, directories), moved);
  assert.deepEqual(one(guest, 300, ["cwd_deleted"]), { cwd_deleted: 1 });
  kernel.writeInteger(working, home, 8);
  const missing = 0xffff_c900_0000_0000n;
  const reads: Record<string, string[]> = {
    real_parent: ["parent"],
    real_cred: ["uid", "gid", "euid", "egid", "suid", "sgid"],
    signal: ["threads", "pgroup", "user_time", "system_time", "disk_bytes_read", "disk_bytes_written"],
    fs: ["cwd", "root", "cwd_deleted", "root_deleted"],
    nsproxy: ["cgroup_namespace", "ipc_namespace", "mnt_namespace", "net_namespace", "uts_namespace"],
    cgroups: ["cgroup_path"],
    mm: ["path", "on_disk", "cmdline", "wired_size", "resident_size", "total_size"],
  };
  const before = one(guest, 300);
  for (const [member, columns] of Object.entries(reads)) {
    const kept = kernel.readPointer(shell.task.at(member));
    shell.task.set(member, missing);
    assert.deepEqual(one(guest, 300), { ...before, ...Object.fromEntries(columns.map((name) => [name, unreadable])) });
    shell.task.set(member, kept);
  }
  assert.deepEqual(one(guest, 300), before);
});

test("a guest without a clock that was set: times count from 1970", () => {
  const { kernel } = miniGuest({ clock: 1000 });
  const guest = attach(kernel.ram.mapped());
  assert.equal(one(guest, 300).start_time, 70);
  assert.equal(rowsOf(guest.table("kernel_info"))[0]!.boot_time, 0);
});

test("a list of tasks that breaks gives what is before the break, and says so", () => {
  for (const [table, rows] of [
    ["processes", 2],
    ["process_threads", 2],
    ["process_envs", 2],
  ] as const) {
    const { kernel, shell } = miniGuest();
    const guest = attach(kernel.ram.mapped());
    shell.task.set("tasks.prev", 0x1234);
    const later = addProcess(kernel, { pid: 500, comm: "hidden" });
    assert.ok(later.task.va > 0n);
    const answer = guest.table(table);
    assert.equal(answer.rows, rows, table);
    assert.equal(answer.incomplete, true);
    assert.match(answer.notes.join(), /task list/);
    assert.equal(answer.retried, 5);
  }
});

test("threads without an end to their list are told of", () => {
  const { kernel, shell } = miniGuest();
  addThread(kernel, shell, { pid: 302, comm: "third" }).set("thread_node.prev", 0);
  const answer = attach(kernel.ram.mapped()).table("process_threads");
  assert.equal(answer.rows, 4);
  assert.match(answer.notes.join(), /threads/);
});

test("modules: states, taints in the order of their bits, users, one that is not yet formed", () => {
  const { kernel } = miniGuest();
  const user = addModule(kernel, { name: "user", state: 1, taints: 0xfffff });
  addModule(kernel, { name: "used", state: 2, users: [user, user], references: 2 });
  addModule(kernel, { name: "unformed", state: 3 });
  const columns = ["name", "status", "taints", "used_by", "references"];
  assert.deepEqual(rowsOf(attach(kernel.ram.mapped()).table("kernel_modules", { columns })).slice(2), [
    { name: "user", status: "Loading", taints: "PFCOEKXTNJ", used_by: "-", references: 0 },
    { name: "used", status: "Unloading", taints: "", used_by: "user,user,", references: 2 },
  ]);
});

test("iomem: depth first, 64-bit addresses, circles and names that are missing", () => {
  const { kernel } = miniGuest();
  const top = (1n << 64n) - 1n;
  const high = addResource(kernel, kernel.iomem, "high", 1n << 52n, top);
  const inner = addResource(kernel, high, "inner", 0xffff_ffff_ffff_f123n, top);
  inner.set("name", 0);
  const guest = attach(kernel.ram.mapped());
  assert.deepEqual(rowsOf(guest.table("memory_map")).slice(3), [
    { name: "high", start: "0x10000000000000", end: "0xffffffffffffffff", depth: 0, size: unreadable },
    { name: unreadable, start: "0xfffffffffffff123", end: "0xffffffffffffffff", depth: 1, size: 0xedd },
  ]);
  inner.set("sibling", inner.va);
  const circle = guest.table("memory_map");
  assert.ok(circle.rows <= 70_000);
  assert.match(circle.notes.join(), /resource tree/);
  inner.setAll({ sibling: 0, child: inner.va });
  const spiral = guest.table("memory_map");
  assert.deepEqual([spiral.rows, spiral.incomplete], [3 + 33, true]);
  kernel.iomem.set("child", 0x1000);
  const lost = guest.table("memory_map");
  assert.deepEqual([lost.rows, lost.incomplete], [0, true]);
});
