// The engine's answers about running guests of every kind, equal to what the guests say of themselves and QEMU of them.
import assert from "node:assert/strict";
import { after, before, suite, type TestContext, test } from "node:test";
import type { GuestSpec, Truth } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { compareKernelInfo, compareLookups, compareMemoryMap, compareModules, compareSymbols } from "./kernel.ts";
import {
  compareEnvironments,
  compareProcesses,
  compareStartTimes,
  compareThreads,
  type Directories,
  type Paired,
  pairProcesses,
  readDirectories,
} from "./processes.ts";
import { type Row, randomOf, read, Subject } from "./support.ts";
import { compareSearch } from "./symbol-search.ts";
import {
  compareMemory,
  compareTranslations,
  kernelAddresses,
  kernelVcpu,
  pausedWhen,
  sample,
  userAddresses,
  userAreas,
  vcpuOf,
} from "./translations.ts";

/** Every kernel with every paging and every kind of RAM, the rest at least once. */
const variants: GuestSpec[] = [
  { kernel: "6.1", la57: false, ram: "memfd" },
  { kernel: "6.12", la57: true, ram: "memfd", memoryMiB: 5632, vcpus: 2 },
  { kernel: "6.1", la57: true, ram: "file", vcpus: 2, machine: "pc" },
  { kernel: "6.12", la57: false, ram: "anonymous", vcpus: 2, extraTasks: 300 },
  { kernel: "6.1", la57: true, ram: "anonymous", pti: true },
  { kernel: "6.12", la57: false, ram: "file", pti: true },
];

suite("guests", { concurrency: 2 }, () => {
  for (const spec of variants) suite(titleOf(spec), { concurrency: 1 }, () => checks(spec));
});

function titleOf({ kernel, la57, ram, vcpus = 1, memoryMiB = 512, pti, machine }: GuestSpec): string {
  const parts = [`Linux ${kernel}`, la57 ? "5-level" : "4-level", ram, `${memoryMiB} MiB`, `${vcpus} vCPU`];
  return [...parts, ...(pti ? ["PTI"] : []), ...(machine ? [machine] : [])].join(", ");
}

function checks(spec: GuestSpec): void {
  let subject: Subject;
  let guest: Guest;
  let [earlier, later]: (Truth | undefined)[] = [];
  let tables: Record<string, Row[]>;
  let directories: Map<number, Directories>;
  let paired: Paired[];

  before(async () => {
    subject = await Subject.boot({ ...spec, name: `truth-${spec.kernel}` });
    guest = await subject.attach();
    directories = await readDirectories(subject);
    earlier = await subject.lab.truth();
    const names = ["processes", "process_threads", "process_envs", "kernel_modules", "kernel_info", "memory_map"];
    tables = Object.fromEntries(names.map((name) => [name, rowsOfWhole(guest, name)]));
    later = await subject.lab.truth();
  });
  after(() => subject?.[Symbol.asyncDispose]());

  test("processes", (t: TestContext) => {
    const tell = (line: string) => t.diagnostic(line);
    paired = pairProcesses(tables.processes!, earlier!, later!, tell);
    compareProcesses(paired, directories, tell);
    compareStartTimes(
      paired.map(({ row, was }) => ({ row, stat: was.stat })),
      earlier!,
    );
    t.diagnostic(`${paired.length} processes`);
  });

  test("threads and environments", (t: TestContext) => {
    const threads = compareThreads(tables.process_threads!, paired);
    compareStartTimes(threads, earlier!);
    t.diagnostic(`${threads.length} threads, ${compareEnvironments(tables.process_envs!, paired)} variables`);
  });

  test("modules, kernel and memory map", () => {
    compareModules(tables.kernel_modules!, earlier!);
    compareMemoryMap(tables.memory_map!, earlier!);
    const [info, ...others] = tables.kernel_info!;
    assert.deepEqual(others, []);
    const expected = { hostname: subject.lab.name, paging: spec.la57 ? "5-level" : "4-level" };
    compareKernelInfo(info!, earlier!, later!, expected);
  });

  test("symbols", async (t: TestContext) => {
    const truth = await subject.lab.kallsyms();
    t.diagnostic(`${compareSymbols(guest, truth)} symbols, ${compareLookups(guest, truth)} lookups`);
    const text = truth.find(({ name }) => name === "_text")!.address;
    assert.equal(tables.kernel_info![0]!.kaslr_offset, `0x${(text - 0xffff_ffff_8100_0000n).toString(16)}`);
  });

  test("symbols are found where VMCOREINFO does not tell", (t: TestContext) => {
    t.diagnostic(compareSearch(subject.memory, guest));
  });

  test("the kernel's translations and memory", async (t: TestContext) => {
    // Where KASLR puts the image it breaks a large page up; the others of a guest over 4 GiB stay.
    const hasGigabytePages = /^DirectMap1G: *[1-9]/m.test(await subject.lab.exec("cat /proc/meminfo"));
    assert.equal(hasGigabytePages, (spec.memoryMiB ?? 0) > 4096);
    await pausedWhen(
      subject,
      async () => (await kernelVcpu(subject)) >= 0,
      async () => {
        const vcpu = await kernelVcpu(subject);
        const addresses = await kernelAddresses(subject, guest);
        const { mapped, unmapped, sizes } = await compareTranslations(subject, guest, vcpu, "kernel", addresses);
        assert.ok(mapped > 300 && unmapped > 50, `${mapped} mapped, ${unmapped} not`);
        const expected = hasGigabytePages ? [4096, 1 << 21, 1 << 30] : [4096, 1 << 21];
        assert.deepEqual(
          [...sizes.keys()].sort((a, b) => a - b),
          expected,
        );
        const bytes = await compareMemory(subject, guest, vcpu, "kernel", addresses.slice(0, 200));
        t.diagnostic(`${mapped} mapped, ${unmapped} not; pages ${[...sizes].join(" ")}; ${bytes} bytes`);
      },
    );
  });

  test("physical memory", async (t: TestContext) => {
    const random = randomOf(17);
    const addresses = subject.memory.layout.ranges.flatMap(({ gpa, length }) => {
      const last = BigInt(gpa + length);
      return [...sample({ start: BigInt(gpa), end: last - 320n }, 80, random), last - 320n];
    });
    await pausedWhen(
      subject,
      async () => true,
      async () => t.diagnostic(`${await compareMemory(subject, guest, 0, "physical", addresses)} bytes`),
    );
  });

  test("a process's translations and memory", async (t: TestContext) => {
    await subject.lab.exec("(while :; do :; done) & echo $! > /run/busy");
    const pid = Number(await subject.lab.exec("cat /run/busy"));
    const areas = await userAreas(subject, pid);
    await pausedWhen(
      subject,
      async () => (await vcpuOf(subject, guest, pid)) >= 0,
      async () => {
        const vcpu = await vcpuOf(subject, guest, pid);
        const addresses = userAddresses(areas);
        const { mapped, unmapped } = await compareTranslations(subject, guest, vcpu, { pid }, addresses);
        assert.ok(mapped > 100 && unmapped > 10, `${mapped} mapped, ${unmapped} not`);
        const bytes = await compareMemory(subject, guest, vcpu, { pid }, addresses);
        t.diagnostic(`${mapped} mapped, ${unmapped} not; ${bytes} bytes`);
      },
    );
    await subject.lab.exec(`kill ${pid}`);
  });
}

/** All columns; nothing may be missing, and nothing that can't be read. */
function rowsOfWhole(guest: Guest, name: string): Row[] {
  const { notes } = guest.table(name);
  assert.deepEqual(notes, []);
  return read(guest, name);
}
