import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { bootFirmwareOnly, bootGuest, type LabGuest, launchGuest, type TruthProcess } from "./index.ts";
import { monitorCommand } from "./qemu/qmp.ts";

let guest: LabGuest;
before(async () => {
  guest = await bootGuest({ kernel: "6.1", ram: "file", vcpus: 2, pti: true, extraTasks: 5 }, (line) =>
    process.stderr.write(`lab: ${line}\n`),
  );
});
after(() => guest?.close());

test("the guest reports every kind of process of its workload", async () => {
  const truth = await guest.truth();
  const processes = [...truth.processes.values()];
  const one = (what: string, is: (process: TruthProcess) => boolean): TruthProcess => {
    const found = processes.filter(is);
    assert.equal(found.length, 1, `${what}: ${found.length} found`);
    return found[0]!;
  };
  const odd = one("odd arguments", ({ argv }) => argv[3] === "two words");
  assert.deepEqual(odd.argv.slice(3), ["two words", "", "caf\udce9 \udcff\udcfe", "naïve ☃", "tab\tand\nline", ""]);
  assert.deepEqual([odd.uids[0], odd.gids[0], odd.env], [1000, 1000, []]);
  const long = one("long arguments", ({ argv }) => argv[3]?.startsWith("startx") === true);
  assert.deepEqual([long.argv[3]!.length, long.env[0]!.length], [6008, 9005]);
  const named = one("odd name", ({ comm }) => comm === "a) R 1 (b");
  assert.deepEqual(named.uids, [1000, 1001, 1001, 1001]);
  assert.equal(one("renamed", ({ comm }) => comm === "kworker/9:9").kernelThread, false);
  assert.equal(one("deleted executable", ({ argv }) => argv[3] === "dropper").exe, "/tmp/.dropper (deleted)");
  assert.equal(one("executable in memory", ({ argv }) => argv[3] === "from-memory").exe, "/memfd:payload (deleted)");
  assert.equal(one("nice", ({ argv }) => argv[3] === "nice").stat.nice, 10);
  assert.equal(one("stopped", ({ argv }) => argv[3] === "stopped").stat.state, "T");
  const zombie = one("zombie", ({ stat }) => stat.state === "Z");
  assert.deepEqual([zombie.argv, truth.processes.get(zombie.stat.ppid)!.argv[3]], [[], "negligent"]);
  const boxed = one("container", ({ argv }) => argv[0] === "sh" && argv[3] === "boxed");
  assert.equal(boxed.cgroup, "/lab.slice/box");
  assert.notEqual(boxed.namespaces.get("pid"), truth.processes.get(1)!.namespaces.get("pid"));
  one("shell", ({ argv, comm }) => argv[0] === "-bash" && comm === "bash");
  assert.equal(processes.filter(({ argv }) => argv[3] === "extra").length, 6);

  const server = one("server", ({ argv }) => argv.includes("/lab/server.py"));
  assert.deepEqual(server.threads.map(({ stat }) => stat.comm).sort(), [
    "acceptor",
    "io (slow) R 9",
    "nom-é",
    "python3",
    "raw-\udcff\udcfe",
    "worker-0",
    "worker-1",
  ]);
  assert.ok(server.env.includes("RAW=\udcff\udcfe\udc80"));
  const files = [...server.files.values()];
  for (const file of ["/tmp/app.log", "/tmp/gone.dat (deleted)", "/memfd:buffer (deleted)"])
    assert.ok(files.includes(file), file);
  assert.ok(files.filter((file) => file.startsWith("socket:")).length >= 9);
});

test("the guest is as it was asked for", async () => {
  const truth = await guest.truth();
  assert.match(truth.release, /^6\.1\./);
  assert.match(truth.cmdline, /pti=on/);
  assert.ok(truth.modules.find(({ name }) => name === "stp")!.usedBy.includes("bridge"));
  assert.ok(truth.memTotalKiB > 400_000 && truth.memTotalKiB < 524_288);
  assert.ok(truth.iomem.some(({ name }) => name === "Kernel code"));
  assert.equal((await guest.exec("nproc")).trim(), "2");
  assert.match(await guest.exec("dmesg"), /page tables isolation: enabled/);
  const sockets = await guest.exec("netstat -ltun; cat /proc/net/unix");
  for (const part of ["127.0.0.1:8080", ":::8443", "0.0.0.0:5353", "/tmp/app.sock", "@lab-abstract"])
    assert.ok(sockets.includes(part), part);
  assert.equal(statSync(guest.ramFile!).size, 512 * 1048576);
  assert.equal(readFileSync(`/proc/${guest.pid}/comm`, "utf8"), "qemu-system-x86\n");
});

test("commands answer with status and bytes, and errors say what failed", async () => {
  assert.deepEqual(await guest.run("printf 'a\\377'; exit 3"), { status: 3, output: Buffer.from([0x61, 0xff]) });
  assert.equal((await guest.run("sleep 1000 & echo started")).output.toString(), "started\n");
  await assert.rejects(guest.exec("echo no such luck; false"), /no such luck/);
  assert.equal((await guest.run("kill -KILL $$")).status, -9);
  assert.equal((await guest.run("head -c 3000000 /dev/zero")).output.length, 3_000_000);
});

test("kallsyms names the kernel's and the modules' symbols", async () => {
  const symbols = await guest.kallsyms();
  const task = symbols.find(({ name }) => name === "init_task")!;
  assert.ok(task.address > 0xffffffff80000000n);
  assert.ok(symbols.some(({ module }) => module === "bridge"));
});

test("both monitors answer at the same time", async () => {
  for (const path of [guest.qmp, guest.groundQmp]) {
    assert.deepEqual(await monitorCommand(path, "query-uuid"), { UUID: guest.uuid });
  }
  await assert.rejects(guest.monitor("no-such-command"), /refused no-such-command/);
});

test("another machine begins with its state and its RAM, and stands still there", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-state-"));
  try {
    const stateFile = join(folder, "state");
    await guest.saveState(stateFile);
    const { ramFile } = guest;
    await using twin = await bootGuest({
      kernel: "6.1",
      ram: "file",
      vcpus: 2,
      pti: true,
      ramFile: ramFile!,
      stateFile,
    });
    const registers = (one: LabGuest) => one.monitor("human-monitor-command", { "command-line": "info registers" });
    assert.equal(await registers(twin), await registers(guest));
    assert.notEqual(twin.uuid, guest.uuid);
    assert.equal(((await twin.monitor("query-status")) as { status: string }).status, "paused");
  } finally {
    rmSync(folder, { recursive: true });
    await guest.monitor("cont");
  }
  assert.equal(await guest.exec("echo on"), "on\n");
});

test("a reset brings it up anew, and shutting down ends it and leaves nothing", async () => {
  const first = await guest.truth();
  await guest.reset();
  assert.notEqual((await guest.truth()).bootId, first.bootId);
  await guest.shutdown();
  await guest.close();
  assert.deepEqual([existsSync(guest.ramFile!), existsSync(dirname(guest.qmp))], [false, false]);
});

test("one whose kernel panics while it boots is reset once, where it is emulated", async () => {
  await using late = await launchGuest({ kernel: "6.1", workload: "quiet" });
  if (late.acceleration !== "tcg") return;
  // Where QEMU does not write over it.
  const console = join(dirname(late.qmp), "console.log");
  writeFileSync(console, `${late.console().padEnd(1 << 20)}Kernel panic - not syncing: made up\n`);
  const told: string[] = [];
  await late.ready((line) => told.push(line));
  assert.match(told.join("\n"), /^\S+: its kernel panicked while it booted; resetting it once$/);
  assert.equal(await late.exec("echo on"), "on\n");
});

test("a machine without a system stays in its firmware", async () => {
  await using firmware = await bootFirmwareOnly({ ram: "anonymous" });
  const status = (await firmware.monitor("query-status")) as { status: string };
  assert.equal(status.status, "running");
  assert.equal(firmware.console(), "");
  await assert.rejects(firmware.exec("true", 300), /did not answer/);
});

test("QEMU's refusal is told", async () => {
  await assert.rejects(bootGuest({ kernel: "6.1", uuid: "not-a-uuid" }), /QEMU did not start: .*not-a-uuid|uuid/i);
});
