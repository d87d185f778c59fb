// A real guest's memory, made hostile: every question ends in an answer or a GuestError, within its time and its space.
import assert from "node:assert/strict";
import { before, suite, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bufferReader, type Fault, type MockDriver, mockDriver } from "../../vmi/driver/mock/index.ts";
import {
  attach,
  Budget,
  type Guest,
  GuestError,
  type GuestMemoryLayout,
  type PhysicalMemory,
  type TableQuery,
} from "../../vmi/index.ts";
import { mmStruct } from "../../vmi/linux/mm.ts";
import { moduleStruct, walkModules } from "../../vmi/linux/module.ts";
import { readPointer } from "../../vmi/linux/read.ts";
import { taskStruct } from "../../vmi/linux/task-struct.ts";
import { walkProcesses } from "../../vmi/linux/tasks.ts";
import { variable } from "./kernel.ts";
import { structureLies } from "./lies.ts";
import { questions, randomOf, rowsOf, Subject } from "./support.ts";

const ROUNDS = 1200;
/** One table in so many is asked in a round. */
const STRIDE = 8;
/** Tables that a guest is asked that was attached to while it changed. */
const FEW = 6;
const ATTACH_ROUNDS = 60;
const BUDGET_MS = 300;
/** Processor time beyond the budget that a question may take to notice; the machine is shared, so not of the clock. */
const MARGIN_MS = 1500;
/** What all of this may hold at once, beside the two images. */
const MAX_GROWTH = 600 << 20;

interface Image {
  readonly ram: Uint8Array;
  readonly layout: GuestMemoryLayout;
}

/** The populated RAM of a paused guest, byte N at guest physical address N. */
function imageOf({ layout, copy }: { layout: GuestMemoryLayout; copy: PhysicalMemory["copy"] }): Image {
  const end = Math.max(...layout.ranges.map(({ gpa, length }) => gpa + length));
  const ram = new Uint8Array(end);
  const populated = layout.populated ?? layout.ranges;
  for (const { gpa, length } of populated) {
    for (let done = 0; done < length; done += 1 << 20) {
      const bytes = copy(gpa + done, Math.min(1 << 20, length - done));
      if (bytes !== undefined) ram.set(bytes, gpa + done);
    }
  }
  const ranges = layout.ranges.map(({ gpa, length }) => ({ gpa, length, backing: 0, offset: gpa }));
  return { ram, layout: { ranges, backings: [], populated } };
}

suite("mutated guests", { concurrency: 1 }, () => {
  let image: Image;
  let later: Image;
  let driver: MockDriver;
  let guest: Guest;
  /** What goes wrong at present. */
  let fault: (gpa: number, length: number, earlier: number) => Fault | undefined = () => undefined;
  /** Kernel pointers that the clean tables led along. */
  let pointers: bigint[];
  let direct: bigint;
  let baseline: number;
  /** A question to every table: of file_contents one that there is. */
  let asked: typeof questions;
  const readTables = (from: Guest) =>
    Object.fromEntries(asked.map(({ name, query }) => [name, rowsOf(from.table(name, query)).length]));

  before(async () => {
    await using subject = await Subject.boot({
      kernel: "6.12",
      la57: true,
      memoryMiB: 384,
      ram: "anonymous",
      workload: "full",
    });
    const kept = /^\d+/.exec(await subject.lab.exec("stat -c %i /mnt/disk/partial"))![0];
    const others: Record<string, TableQuery> = {
      file_contents: { where: [{ column: "inode", values: [kept] }] },
      // Those of the kernel proper alone take longer than a question may here.
      kernel_symbols: { where: [{ column: "module", values: ["loop", "nf_tables"] }] },
    };
    asked = questions.map(({ name, query }) => ({ name, query: others[name] ?? query }));
    const take = async () => {
      await subject.pause();
      await subject.reopen();
      const { memory } = subject;
      const taken = imageOf({ layout: memory.layout, copy: (gpa, length) => memory.copy(gpa, length) });
      await subject.resume();
      return taken;
    };
    image = await take();
    // Lists grow, and ids and memory are given out anew.
    await subject.lab.exec("for n in 1 2 3 4 5 6 7 8; do sleep 99 & done");
    await sleep(1000);
    later = await take();
    driver = mockDriver({ ...image, read: bufferReader(image.ram), fault: (...read) => fault(...read) });
    guest = attach(driver.memory);
    direct = variable(guest, "page_offset_base");
    pointers = pointersOf(
      image.ram,
      touchedBy(driver, () => readTables(guest)),
    );
    baseline = process.memoryUsage().rss;
  });

  test("the image is a guest", (t: TestContext) => {
    const counts = readTables(guest);
    t.diagnostic(JSON.stringify(counts));
    const empty = Object.keys(counts).filter((name) => counts[name] === 0);
    assert.deepEqual(empty, [], "these tables say nothing of the image");
    assert.ok(counts.processes! > 60 && counts.kernel_modules! > 5 && pointers.length > 1000);
  });

  const kinds: Record<string, (random: () => number) => typeof fault> = {
    "bits flip": (random) =>
      perPage(random, 0.1, (bytes) => {
        for (let i = 0; i < 8; i++) {
          const at = Math.floor(random() * bytes.length);
          bytes[at]! ^= 1 << Math.floor(random() * 8);
        }
      }),
    "pointers lead elsewhere": (random) =>
      perPage(random, 0.2, (bytes, gpa) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        for (let i = 0; i < 24; i++) {
          const at = Math.floor((random() * bytes.length) / 8) * 8;
          if (at + 8 > bytes.length) continue;
          const isPointer = view.getUint8(at + 7) === 0xff;
          if (isPointer || random() < 0.1) view.setBigUint64(at, elsewhere(random, gpa + at), true);
        }
      }),
    "numbers are absurd": (random) =>
      perPage(random, 0.2, (bytes) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        for (let i = 0; i < 24; i++) {
          const at = Math.floor((random() * bytes.length) / 4) * 4;
          if (at + 4 <= bytes.length)
            view.setInt32(at, [0, -1, 0x7fff_ffff, 0x1000_0000, -4096][Math.floor(random() * 5)]!, true);
        }
      }),
    "pages are missing": (random) => () => (random() < 0.03 ? { kind: "missing" } : undefined),
    "pages are of two instants": (random) => () =>
      random() < 0.5 ? { kind: "torn", at: Math.floor(random() * 512) * 8, later: bufferReader(later.ram) } : undefined,
    "everything at once": (random) => {
      const all = ["bits flip", "pointers lead elsewhere", "numbers are absurd", "pages are of two instants"];
      const faults = all.map((name) => kinds[name]!(random));
      return (...read) => faults[Math.floor(random() * faults.length)]!(...read);
    },
  };

  /** A pointer to itself, along another's way, into a hole, to no place at all, or null. */
  function elsewhere(random: () => number, gpa: number): bigint {
    const choices = [
      direct + BigInt(gpa),
      pointers[Math.floor(random() * pointers.length)]!,
      pointers[Math.floor(random() * pointers.length)]! + 8n,
      direct + (1n << 45n),
      0x1234_5678_9abc_def0n,
      0n,
    ];
    return choices[Math.floor(random() * choices.length)]!;
  }

  for (const [name, make] of Object.entries(kinds)) {
    test(`tables while ${name}`, (t: TestContext) => {
      const outcomes = new Map<string, number>();
      for (let round = 0; round < ROUNDS / Object.keys(kinds).length; round++) {
        fault = make(randomOf(round + 1));
        // Each round asks some of the tables, all rounds together every one.
        for (const table of asked.filter((_, i) => i % STRIDE === round % STRIDE)) {
          const what = within(`${table.name}, round ${round}`, (budget) => {
            const { incomplete, retried } = guest.table(table.name, table.query, budget);
            return incomplete ? "incomplete" : retried > 0 ? "begun anew" : "complete";
          });
          outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
        }
        within(`reads, round ${round}`, (budget) => {
          guest.translate([{ space: { pid: 1 }, address: 0x40_0000n }], budget);
          guest.read([{ space: { pid: 1 }, address: 0x40_0000n, length: 65_536 }], budget);
          return "";
        });
      }
      fault = () => undefined;
      t.diagnostic([...outcomes].map(([what, count]) => `${count} ${what}`).join(", "));
      assert.ok(
        [...outcomes.keys()].some((what) => what !== "complete"),
        "no fault was ever felt",
      );
    });

    test(`attaching while ${name}`, (t: TestContext) => {
      const outcomes = new Map<string, number>();
      for (let round = 0; round < ATTACH_ROUNDS / Object.keys(kinds).length; round++) {
        fault = rarely(make(randomOf(1000 + round)), randomOf(round));
        const what = within(
          `attach, round ${round}`,
          (budget) => {
            const found = attach(driver.memory);
            for (const { name, query } of drawn(asked, randomOf(round), FEW)) found.table(name, query, budget);
            return "attached";
          },
          5000,
        );
        outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
      }
      fault = () => undefined;
      t.diagnostic([...outcomes].map(([what, count]) => `${count} ${what}`).join(", "));
    });
  }

  test("structures that lie: loops, and lengths without end", (t: TestContext) => {
    const { kernel } = guest;
    const task = kernel.layout(taskStruct);
    const mm = kernel.layout(mmStruct);
    const processes = walkProcesses(kernel, new Budget());
    const addresses = processes.hi.map((hi, i) => ({ hi, lo: processes.lo[i]! }));
    const modules = walkModules(kernel, new Budget());
    const gva = ({ hi, lo }: { hi: number; lo: number }) => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    const lies: Record<string, (write: (at: bigint, value: bigint) => void) => void> = {
      "a ring of two tasks that leaves the head out": (write) =>
        ring(write, addresses.slice(3, 5).map(gva), task.tasks),
      "a ring of two modules": (write) => {
        const two = [0, 1].map((i) => gva({ hi: modules.hi[i]!, lo: modules.lo[i]! }));
        ring(write, two, kernel.layout(moduleStruct).list);
      },
      "arguments and environments of 4 MiB, of everyone": (write) => {
        for (const at of addresses) {
          const memory = readPointer(kernel.space, at, task.mm);
          if (memory === undefined || (memory.hi === 0 && memory.lo === 0)) continue;
          for (const [start, end] of [
            [mm.arg_start, mm.arg_end],
            [mm.env_start, mm.env_end],
          ] as const) {
            write(gva(memory) + BigInt(start), direct + 0x100_0000n);
            write(gva(memory) + BigInt(end), direct + 0x140_0000n);
          }
        }
      },
      "every task is its own parent, memory and credentials": (write) => {
        for (const at of addresses) {
          for (const member of [
            task.real_parent,
            task.real_cred,
            task.mm,
            task.signal,
            task.fs,
            task.nsproxy,
            task.cgroups,
          ])
            write(gva(at) + BigInt(member), gva(at));
        }
      },
    };
    for (const [name, lie] of [...Object.entries(lies), ...Object.entries(structureLies(guest))]) {
      const words = new Map<number, bigint>();
      lie((at, value) => {
        const [found] = guest.translate([{ space: "kernel", address: at }]);
        if (found!.mapped) words.set(found!.gpa, value);
      });
      assert.ok(words.size > 0, name);
      const pages = Map.groupBy(words, ([gpa]) => gpa & ~0xfff);
      fault = (gpa, length) => overlay(pages, gpa, length);
      const outcomes = asked.map((table) =>
        within(`${table.name}: ${name}`, (budget) =>
          guest.table(table.name, table.query, budget).incomplete ? "incomplete" : "complete",
        ),
      );
      fault = () => undefined;
      const told = asked.map(({ name: table }, i) => [table, outcomes[i]!]);
      t.diagnostic(`${name}: ${told.filter(([, what]) => what !== "complete").join("; ")}`);
    }
    assert.deepEqual(readTables(guest).processes, processes.count, "the lies are over");
  });

  /** Runs a question under a budget; its outcome, a GuestError's kind. Anything else that is thrown is a bug. */
  function within(what: string, ask: (budget: Budget) => string, milliseconds = BUDGET_MS): string {
    // What the driver has recorded would soon be more than what the questions take.
    driver.forget();
    const start = process.cpuUsage();
    let outcome: string;
    try {
      outcome = ask(new Budget(milliseconds));
    } catch (error) {
      if (!(error instanceof GuestError)) throw new Error(`${what}: ${error}`, { cause: error });
      assert.match(error.message, /^[\x20-\x7e]+$/, what);
      outcome = error.kind;
    }
    const { user, system } = process.cpuUsage(start);
    const took = (user + system) / 1000;
    assert.ok(took < milliseconds + MARGIN_MS, `${what}: ${took} ms of processor time`);
    const growth = process.memoryUsage().rss - baseline;
    assert.ok(growth < MAX_GROWTH, `${what}: ${growth >> 20} MiB more`);
    return outcome;
  }
});

/** Some of many. */
function drawn<T>(all: readonly T[], random: () => number, count: number): T[] {
  return Array.from({ length: count }, () => all[Math.floor(random() * all.length)]!);
}

/** The pages that a question looks at. */
function touchedBy(driver: MockDriver, ask: () => unknown): Set<number> {
  const from = driver.accesses.length;
  ask();
  return new Set(driver.accesses.slice(from).map(({ gpa }) => gpa & ~0xfff));
}

/** What looks like kernel pointers in some pages. */
function pointersOf(ram: Uint8Array, pages: ReadonlySet<number>): bigint[] {
  const view = new DataView(ram.buffer);
  const found: bigint[] = [];
  for (const page of pages) {
    for (let at = page; at < page + 4096; at += 8) {
      if (view.getUint16(at + 6, true) >= 0xff00 && view.getUint32(at, true) % 8 === 0)
        found.push(view.getBigUint64(at, true));
    }
  }
  return found;
}

/** Changes some pages, and a page always in the same way, so that what is read twice agrees with itself. */
function perPage(random: () => number, share: number, change: (bytes: Uint8Array, gpa: number) => void) {
  const changed = new Map<number, boolean>();
  return (gpa: number): Fault | undefined => {
    const hit = changed.get(gpa) ?? random() < share;
    changed.set(gpa, hit);
    return hit ? { kind: "changed", change } : undefined;
  };
}

/** Attaching reads much in large pieces, and most faults would only hide the kernel. */
function rarely<F extends (...read: [number, number, number]) => Fault | undefined>(fault: F, random: () => number) {
  return (...read: [number, number, number]) => (random() < 0.2 ? fault(...read) : undefined);
}

/** Two elements of a list as a ring of their own. */
function ring(write: (at: bigint, value: bigint) => void, elements: readonly bigint[], member: number): void {
  const [one, other] = elements.map((element) => element + BigInt(member)) as [bigint, bigint];
  for (const [at, to] of [
    [one, other],
    [other, one],
  ] as const) {
    write(at, to);
    write(at + 8n, to);
  }
}

/** Words at guest physical addresses, by page, over what is read there. */
function overlay(
  pages: ReadonlyMap<number, readonly (readonly [number, bigint])[]>,
  gpa: number,
  length: number,
): Fault | undefined {
  const hits: (readonly [number, bigint])[] = [];
  for (let page = gpa & ~0xfff; page < gpa + length; page += 4096) hits.push(...(pages.get(page) ?? []));
  if (hits.length === 0) return undefined;
  return {
    kind: "changed",
    change(bytes) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (const [at, value] of hits) {
        if (at >= gpa && at + 8 <= gpa + length) view.setBigUint64(at - gpa, value, true);
      }
    },
  };
}
