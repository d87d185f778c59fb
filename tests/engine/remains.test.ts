// RAM that holds more than the running kernel: remains of earlier boots in the same file, resets, and the time between.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bootFirmwareOnly, type KernelSeries, type LabGuest } from "../../lab/index.ts";
import { openImage } from "../../vmi/driver/image/index.ts";
import { attach, type Guest, GuestError, openMemory, type PhysicalMemory } from "../../vmi/index.ts";
import { findVmcoreinfo } from "../../vmi/symbols/vmcoreinfo.ts";
import { read, Subject } from "./support.ts";

const MIB = 1048576;

/** Every kernel that has left its VMCOREINFO in memory: release and KASLR offset. */
function kernelsIn(memory: PhysicalMemory): string[] {
  const found = new Set<string>();
  findVmcoreinfo(memory, ({ fields }) => {
    found.add(`${fields.get("OSRELEASE")} +0x${fields.get("KERNELOFFSET")}`);
    return false;
  });
  return [...found];
}

function nameOf({ kernel }: Guest): string {
  return `${kernel.release} +0x${kernel.kaslrOffset.toString(16)}`;
}

/** The engine looks at the kernel that runs, and at no other. */
async function assertIsRunning(guest: Guest, lab: LabGuest): Promise<void> {
  const truth = await lab.truth();
  const [info] = read(guest, "kernel_info");
  assert.equal(info!.version, truth.release);
  assert.equal(info!.boot_time, truth.bootTime);
  const pids = read(guest, "processes", { where: [{ column: "kernel_thread", values: ["0"] }] }).map(({ pid }) => pid);
  const expected = [...truth.processes.values()].filter(({ kernelThread }) => !kernelThread).map(({ pid }) => pid);
  assert.deepEqual(new Set(pids), new Set(expected));
}

/** By the registers, and without them: then by the clock. */
async function assertFound(subject: Subject): Promise<Guest> {
  const guest = await subject.attach();
  await assertIsRunning(guest, subject.lab);
  await assertIsRunning(attach(subject.memory), subject.lab);
  return guest;
}

/** What came of a question: "ok", or the kind of a GuestError of one line that ends with what to do. Anything else is a bug. */
function outcome(ask: () => unknown): string {
  try {
    ask();
    return "ok";
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    assert.match(error.message, /^[^\n]+(?:ask again in a moment|attach again|from outside|switched off.*)$/);
    return error.kind;
  }
}

const TABLES = ["processes", "process_threads", "process_envs", "kernel_modules", "kernel_info", "memory_map"];

/** Tables of every kind, of a guest that may be gone. */
function readAll(guest: Guest): Set<string> {
  return new Set(TABLES.map((name) => outcome(() => guest.table(name))));
}

suite("remains", { concurrency: 2 }, () => {
  suite("one guest through resets to its end", { concurrency: 1 }, () => resets());
  for (const earlier of ["6.12", "6.1"] as const) {
    suite(`a RAM file that is used again, after ${earlier}`, { concurrency: 1 }, () => reusedFile(earlier));
  }
});

function reusedFile(earlier: KernelSeries): void {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-remains-"));
  after(() => rmSync(folder, { recursive: true }));
  const [ramFile, image] = [join(folder, "ram"), join(folder, "image")];
  const common = { la57: true, ram: "file", ramFile, workload: "quiet" } as const;
  // A guest with RAM above 4 GiB uses that first: what a small one left below stays whole.
  const [small, large] = [1024, 5632];

  /** A guest over what the last one left. */
  function boot(kernel: KernelSeries, memoryMiB: number): Promise<Subject> {
    writeFileSync(ramFile, "", { flag: "a" });
    truncateSync(ramFile, memoryMiB * MIB);
    return Subject.boot({ ...common, kernel, memoryMiB });
  }

  /** Leaves a kernel behind; its name. */
  async function leave(kernel: KernelSeries): Promise<string> {
    await using subject = await boot(kernel, small);
    const name = nameOf(await subject.attach());
    await subject.lab.shutdown();
    return name;
  }

  /** Who looks at no more than the small guest's memory takes what it left for a running kernel. */
  function looksAlive(subject: Subject, name: string): boolean {
    const { ranges, backings } = subject.memory.layout;
    const below = ranges
      .filter(({ gpa }) => gpa < small * MIB)
      .map((range) => ({ ...range, length: Math.min(range.length, small * MIB - range.gpa) }));
    using memory = openMemory({ ranges: below, backings });
    try {
      return nameOf(attach(memory)) === name;
    } catch {
      return false;
    }
  }

  test("the kernel that runs is found", async (t: TestContext) => {
    for (let attempt = 1; ; attempt++) {
      const last = await leave(earlier);
      if (attempt === 1) execFileSync("cp", ["--sparse=always", ramFile, image]);
      await using subject = await boot("6.12", large);
      if (!looksAlive(subject, last)) {
        // KASLR has put the new kernel in the place of the last one.
        assert.ok(attempt < 4, `${last} never survived`);
        continue;
      }
      t.diagnostic(`in memory: ${kernelsIn(subject.memory).join(", ")}`);
      const running = nameOf(await assertFound(subject));
      assert.notEqual(running, last);
      return;
    }
  });

  test("the file is an image of the guest that ended, and what is cut off it is told", (t: TestContext) => {
    for (let eighths = 8; eighths > 0; eighths--) {
      truncateSync(image, (small * MIB * eighths) / 8);
      using opened = openImage(image);
      using memory = openMemory(opened.layout);
      let guest: Guest | undefined;
      const attached = outcome(() => {
        guest = attach(memory);
      });
      if (eighths === 8) assert.match(guest!.kernel.release, new RegExp(`^${earlier}\\.`));
      const found = guest ? `${nameOf(guest)}, tables: ${[...readAll(guest)].join(", ")}` : attached;
      t.diagnostic(`${eighths}/8: ${found}`);
    }
  });
}

function resets(): void {
  let subject: Subject;
  let first: Guest;

  before(async () => {
    // Private memory: it is gone with QEMU.
    subject = await Subject.boot({ kernel: "6.12", la57: false, ram: "anonymous", workload: "quiet" });
    first = await subject.attach();
  });
  after(() => subject?.[Symbol.asyncDispose]());

  test("a machine without a system: no kernel, and what to do", async () => {
    await using firmware = await Subject.of(await bootFirmwareOnly());
    const message =
      "no Linux kernel found in the guest's memory; the vCPUs have not switched paging on: " +
      "it is in its firmware or switched off; if it is starting, ask again in a moment";
    await assert.rejects(firmware.attach(), { kind: "no-kernel", message });
    const withoutRegisters = outcome(() => attach(firmware.memory));
    assert.equal(withoutRegisters, "no-kernel");
  });

  test("while it reboots: errors that say so, then the new kernel", async (t: TestContext) => {
    assert.equal(first.isCurrent(await subject.registers()), true);
    const seen = new Map<string, number>();
    const note = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
    let up = false;
    await subject.lab.monitor("system_reset");
    const rebooted = subject.lab.awaitReboot().finally(() => {
      up = true;
    });
    while (!up) {
      await subject.reopen();
      const registers = await subject.registers();
      note(`attach: ${outcome(() => note(`found: ${nameOf(attach(subject.memory, { registers }))}`))}`);
      for (const kind of readAll(first)) note(`tables of the first: ${kind}`);
      assert.equal(first.isCurrent(registers), false);
      await sleep(200);
    }
    await rebooted;
    for (const [what, count] of seen) t.diagnostic(`${count} x ${what}`);
    assert.ok(seen.has("attach: ok") && (seen.has("attach: not-running") || seen.has("attach: no-kernel")));
    assert.ok(!seen.has(`found: ${nameOf(first)}`), "the kernel of before was taken for running");
    await subject.reopen();
    const second = await assertFound(subject);
    assert.equal(second.isCurrent(await subject.registers()), true);
    assert.equal(first.isCurrent(await subject.registers()), false);
    t.diagnostic(`in memory: ${kernelsIn(subject.memory).join(", ")}`);
  });

  test("while it shuts down, and after", async (t: TestContext) => {
    await subject.reopen();
    const guest = await subject.attach();
    let ended = false;
    void subject.lab.exited.then(() => {
      ended = true;
    });
    const down = subject.lab.shutdown();
    const seen = new Set<string>();
    while (!ended) {
      for (const kind of readAll(guest)) seen.add(kind);
      await sleep(20);
    }
    await down;
    t.diagnostic(`while it went down: ${[...seen].join(", ")}`);
    assert.deepEqual([...readAll(guest)], ["kernel-changed"]);
    assert.equal(guest.isCurrent(), false);
    assert.equal(
      outcome(() => attach(subject.memory)),
      "no-kernel",
    );
    assert.throws(() => guest.read([{ space: "kernel", address: 0xffff_ffff_8100_0000n, length: 8 }]), {
      kind: "kernel-changed",
    });
  });
}
