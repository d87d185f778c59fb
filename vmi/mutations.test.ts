import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { Budget } from "./budget.ts";
import { GuestError } from "./errors.ts";
import { attach, type Guest } from "./guest.ts";
import { PagedMemory } from "./memory/paged-memory.ts";
import { CELL } from "./tables/columns.ts";
import { tables } from "./tables/index.ts";
import { addHidden } from "./testing/mini-files.ts";
import { miniGuest } from "./testing/mini-guest.ts";
import type { MiniKernel } from "./testing/mini-kernel.ts";
import { addProcess } from "./testing/mini-objects.ts";

/**
 * A hostile guest: words of a miniature kernel's memory are replaced at random by other kernels' pointers, lengths and
 * noise. Whatever is asked then is answered, or refused with a GuestError, and what it takes is paid for.
 */

const STEPS = 50_000;
/** What is paid for at once: the symbols of a module, or the pages of its text. */
const AT_ONCE = 65_536;
/** Looks at memory for each step that was paid for: a row of all columns takes about two hundred. */
const LOOKS_A_STEP = 100;
const LOOKS_BESIDE = 5000;

class CountingBudget extends Budget {
  spent = 0;
  override spend(steps = 1): void {
    this.spent += steps;
    super.spend(steps);
  }
}

class CountingMemory extends PagedMemory {
  looks = 0;
  override locate(gpa: number): number {
    this.looks++;
    return super.locate(gpa);
  }
}

interface Subject {
  readonly mini: MiniKernel;
  readonly mapped: Guest;
  readonly counted: Guest;
  readonly memory: CountingMemory;
  /** Words of structures and page tables, and words of symbols, types and the note. */
  readonly structure: number[];
  readonly description: number[];
  /** Values that lead somewhere. */
  readonly pointers: bigint[];
}

function subject(options: Parameters<typeof miniGuest>[0]): Subject {
  const { kernel: mini, files } = miniGuest(options);
  addHidden(mini, files, 400);
  for (let pid = 500; pid < 540; pid++) {
    addProcess(mini, { pid, comm: `p${pid}`, memory: { args: "some\0arguments\0", env: "A=1\0B=2\0" } });
  }
  const memory = new CountingMemory(mini.ram.layout, mini.ram.reader());
  const [described, end] = [mini.gpa(mini.symbol("__start_BTF")), mini.imageGpa + (1 << 21)];
  const words = Array.from({ length: mini.ram.end / 8 }, (_, i) => i * 8).filter((gpa) => mini.ram.u64(gpa) !== 0n);
  const describes = (gpa: number) => (gpa >= described && gpa < end) || gpa >> 12 === mini.noteGpa >> 12;
  const structure = words.filter((gpa) => !describes(gpa));
  const pointers = structure.map((gpa) => mini.ram.u64(gpa)).filter((value) => value >= 0xff11n << 48n);
  const mapped = attach(mini.ram.mapped());
  return { mini, mapped, counted: attach(memory), memory, structure, description: words.filter(describes), pointers };
}

/** A question to every table, with the inode of a file that there is for the one that needs one. */
const questions = tables.map(({ name, required }) => ({
  name,
  query: required.includes("inode") ? { where: [{ column: "inode", values: ["13"] }] } : {},
}));

/** Drawn by index: a failure prints what was drawn, and these hold whole guests. */
const UNREADABLE: Readonly<Record<string, readonly string[]>> = {
  // Module beta keeps none.
  kernel_symbols: ["the symbols of module 1 could not be read"],
};

/** Checks that say that they can't look: the made-up kernels lack what they read. */
const NOT_MADE_UP = [
  "ebpf-programs",
  "false-name",
  "function-pointers",
  "injected-memory",
  "inline-hook",
  "kernel-text",
  "preloaded-library",
  "raised-credentials",
  "shared-credentials",
];
const checkOf = (note: string) => note.split(":", 1)[0]!;

/** Columns without a value in any row: what is too much to make up, or what one of the two kernels does not have. */
const LACKING: Readonly<Record<string, string>> = {
  // Lists of names that the kernel's build makes.
  cpu_info: "flags,bugs",
  // What kthread() keeps on the stack or beside the task.
  kernel_threads: "function,symbol,module",
  // From 5.16 (aba64c7da983).
  loaded_bpf_programs: "verified_instructions",
  // The first bytes of an ELF file, in the process's memory.
  process_libraries: "soname",
  // What a file system counts, and the device that it is on.
  mounts: "device_alias,blocks_size,blocks,blocks_free,blocks_available,inodes,inodes_free",
  time: "clock_source,minutes_west,local_timezone",
  // Its inode is none that there is.
  uprobes: "inode,device",
  // When a driver last said so, and what it says when it is asked.
  interface_details: "last_change,link_speed",
};

const subjects = [
  subject({ flavour: "6.1", mmu: fourLevel, encoding: "percpu", order: "4.20", told: false }),
  subject({ flavour: "6.13", mmu: fiveLevel, encoding: "base" }),
];

const mutation = fc.record({
  place: fc.nat(),
  kind: fc.constantFrom("pointer", "pointer", "near", "bit", "noise", "zero", "ones", "small", "self"),
  value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
});
type Mutation = { place: number; kind: string; value: bigint };

/** Changes words, calls `then`, and puts them back. */
function mutated(
  { mini, pointers }: Subject,
  places: readonly number[],
  changes: readonly Mutation[],
  then: () => void,
): void {
  const { ram } = mini;
  const undo: (readonly [number, bigint])[] = [];
  for (const { place, kind, value } of changes) {
    const gpa = places[place % places.length]!;
    const old = ram.u64(gpa);
    undo.unshift([gpa, old]);
    const pointer = pointers[Number(value % BigInt(pointers.length))]!;
    ram.setU64(gpa, next(kind, old, value, pointer, mini.directMap + BigInt(gpa)));
  }
  try {
    then();
  } finally {
    for (const [gpa, old] of undo) ram.setU64(gpa, old);
  }
}

function next(kind: string, old: bigint, value: bigint, pointer: bigint, self: bigint): bigint {
  switch (kind) {
    case "pointer":
      return pointer;
    case "near":
      return old + BigInt.asIntN(12, value);
    case "bit":
      return old ^ (1n << (value & 63n));
    case "noise":
      return value;
    case "zero":
      return 0n;
    case "ones":
      return (1n << 64n) - 1n;
    case "small":
      return value & 0xffffn;
    default:
      return self;
  }
}

const outcomes = { answered: 0, incomplete: 0, refused: 0 };

function ask(question: () => void): void {
  try {
    question();
    outcomes.answered++;
  } catch (error) {
    assert.ok(error instanceof GuestError, String(error instanceof Error ? error.stack : error));
    assert.match(error.message, /^[\x20-\x7e]{1,1000}$/, "one line that can be shown");
    outcomes.refused++;
  }
}

function readAll(guest: Guest, memory?: CountingMemory): void {
  for (const { name, query } of questions) {
    const budget = new CountingBudget(60_000, STEPS);
    const before = memory?.looks ?? 0;
    ask(() => {
      const answer = guest.table(name, query, budget);
      if (answer.incomplete) outcomes.incomplete++;
      for (const [i, column] of answer.data.entries()) {
        const length = column.kind === "integer" ? column.values.length : column.ends.length;
        assert.equal(length, answer.rows);
        if (column.kind === "text") continue;
        for (const [row, value] of column.values.entries()) {
          const exact: number | bigint = column.wide?.get(row) ?? value;
          const fits: boolean =
            typeof exact === "bigint" ? BigInt.asIntN(64, exact) === exact : Number.isSafeInteger(exact);
          assert.ok(fits, `${name}.${answer.columns[i]!.name}: ${exact}`);
        }
      }
    });
    assert.ok(budget.spent < STEPS + AT_ONCE, `${name} spent ${budget.spent}`);
    const looks = (memory?.looks ?? 0) - before;
    assert.ok(looks <= budget.spent * LOOKS_A_STEP + LOOKS_BESIDE, `${name}: ${looks} looks for ${budget.spent} steps`);
  }
}

test("as it is, every table has something to say, and all of it can be read", () => {
  for (const { mapped, counted } of subjects) {
    for (const guest of [mapped, counted]) {
      for (const { name, query } of questions) {
        const { rows, columns, data, notes } = guest.table(name, query);
        assert.ok(rows > 0, name);
        if (name === "findings") assert.deepEqual(notes.map(checkOf).sort(), NOT_MADE_UP);
        else assert.deepEqual(notes, UNREADABLE[name] ?? [], name);
        const lacking = columns.filter((_, i) => data[i]!.states?.every((state) => state > CELL.notApplicable));
        const known = LACKING[name]?.split(",") ?? [];
        assert.deepEqual(
          lacking.map((column) => column.name).filter((column) => !known.includes(column)),
          [],
          name,
        );
      }
    }
  }
});

test("structures and page tables changed at random: every table, in memory of either kind", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: subjects.length - 1 }),
      fc.array(mutation, { minLength: 1, maxLength: 12 }),
      (index, changes) => {
        const subject = subjects[index]!;
        mutated(subject, subject.structure, changes, () => {
          readAll(subject.mapped);
          readAll(subject.counted, subject.memory);
        });
      },
    ),
    { numRuns: 250, endOnFailure: true },
  );
  assert.ok(outcomes.answered > 0 && outcomes.incomplete > 0, JSON.stringify(outcomes));
});

test("reads and translations in processes' spaces, structures changed at random", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: subjects.length - 1 }),
      fc.array(mutation, { minLength: 1, maxLength: 12 }),
      (index, changes) => {
        const subject = subjects[index]!;
        mutated(subject, subject.structure, changes, () => {
          const budget = () => new Budget(60_000, STEPS);
          for (const pid of [1, 300, 510]) {
            const address = 0x7ffc_0000_0f80n;
            ask(() => subject.mapped.read([{ space: { pid }, address, length: 5000 }], budget()));
            ask(() => subject.counted.translate([{ space: { pid }, address }], budget()));
          }
        });
      },
    ),
    { numRuns: 150, endOnFailure: true },
  );
});

test("symbols, types and the note changed at random: attached to or refused, and then asked", () => {
  outcomes.answered = 0;
  fc.assert(
    fc.property(
      fc.nat({ max: subjects.length - 1 }),
      fc.array(mutation, { minLength: 1, maxLength: 6 }),
      (index, changes) => {
        const subject = subjects[index]!;
        mutated(subject, subject.description, changes, () => {
          ask(() => {
            const guest = attach(subject.mini.ram.mapped());
            readAll(guest);
            guest.symbols(["init_task", "no_such_symbol"]);
            guest.symbolsAt([subject.mini.initTask.va, 0n]);
          });
        });
      },
    ),
    { numRuns: 150, endOnFailure: true },
  );
  assert.ok(outcomes.answered > 0 && outcomes.refused > 0, JSON.stringify(outcomes));
});

test("anything changed at random: attached to or refused", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: subjects.length - 1 }),
      fc.array(mutation, { minLength: 1, maxLength: 30 }),
      (index, changes) => {
        const subject = subjects[index]!;
        mutated(subject, [...subject.structure, ...subject.description], changes, () => {
          ask(() => readAll(attach(subject.mini.ram.mapped(), { profiles: [subject.mapped.profile] })));
        });
      },
    ),
    { numRuns: 60, endOnFailure: true },
  );
});
