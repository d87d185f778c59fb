import assert from "node:assert/strict";
import { test } from "node:test";
import { fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { Budget } from "./budget.ts";
import { attach, type ReadItem } from "./guest.ts";
import { miniGuest } from "./testing/mini-guest.ts";
import { ARGUMENTS } from "./testing/mini-objects.ts";

const { kernel: mini, shell, kthread, init } = miniGuest();
const guests = [mini.ram.mapped(), mini.ram.paged()].map((memory) => attach(memory));
const guest = guests[0]!;
/** The limits that the public contract states. */
const [MAX_READ, MAX_ITEMS, MAX_BATCH, MAX_TRANSLATIONS, MAX_SYMBOLS] = [1 << 20, 4096, 16 << 20, 65_536, 4096];
const MISSING = 0xffff_c900_0000_0000n;

const item = (address: bigint, length: number, space: ReadItem["space"] = "kernel"): ReadItem => ({
  space,
  address,
  length,
});
const after = (item: number, offset: number) => ({ item, offset });
const member = (type: string, name: string) => BigInt(mini.types.of[type]!.members.get(name)!.offset);

test("reading: the kernel's memory, a process's, RAM itself", () => {
  for (const guest of guests) {
    const results = guest.read([
      item(mini.symbol("linux_banner"), 13),
      item(ARGUMENTS, 8, { pid: 300 }),
      item(ARGUMENTS, 10, { pid: 1 }),
      item(BigInt(mini.gpa(mini.symbol("linux_banner"))), 13, "physical"),
      item(mini.symbol("linux_banner"), 5, { pid: 2 }),
      item(0n, 0),
    ]);
    assert.deepEqual(
      results.map(({ bytes }) => Buffer.from(bytes).toString("latin1")),
      ["Linux version", "-a-shell", "/sbin/init", "Linux version", "Linux", ""],
    );
    assert.ok(results.every(({ error }) => error === ""));
    assert.equal(results[1]!.address, ARGUMENTS);
  }
});

test("a read across pages that are no neighbours in RAM is whole", () => {
  for (const guest of guests) {
    const module = mini.readPointer(mini.modules);
    const [{ bytes, error } = { bytes: new Uint8Array(), error: "none" }] = guest.read([item(module - 1000n, 4000)]);
    assert.equal(error, "");
    assert.deepEqual(Buffer.from(bytes), mini.read(module - 1000n, 4000));
  }
});

test("what can't be read ends a read there, and the next is read all the same", () => {
  const last = BigInt(mini.ram.end);
  for (const guest of guests) {
    const results = guest.read([
      item(MISSING, 10),
      item(ARGUMENTS, 1 << 16, { pid: 1 }),
      item(last - 100n, 200, "physical"),
      item(last, 1, "physical"),
      item((1n << 64n) - 1n, 1, "physical"),
      item((1n << 64n) - 1n, 2),
      item(1n << 63n, 8),
      item(mini.symbol("linux_banner"), 5),
    ]);
    assert.deepEqual(
      results.map(({ bytes, error }) => [bytes.length, error === ""]),
      [
        [0, false],
        [128, false],
        [100, false],
        [0, false],
        [0, false],
        [0, false],
        [0, false],
        [5, true],
      ],
    );
    assert.match(results[0]!.error, /^0xffffc90000000000 is not mapped/);
    assert.match(results[1]!.error, /^0x7ffc00001000 is not mapped/);
    assert.match(results[2]!.error, new RegExp(`^0x${last.toString(16)} `));
  }
});

test("a pointer chase is one request", () => {
  const { of } = mini.types;
  for (const guest of guests) {
    const results = guest.read([
      item(shell.task.at("mm"), 8),
      { ...item(member("mm_struct", "exe_file"), 8), after: after(0, 0) },
      { ...item(0n, of.file!.size), after: after(1, 0) },
      { ...item(0n, of.dentry!.size), after: after(2, Number(member("file", "f_path.dentry"))) },
      { ...item(0n, 7), after: after(3, Number(member("dentry", "d_name.name"))) },
      { ...item(-8n, 8), after: after(0, 0) },
    ]);
    assert.equal(Buffer.from(results[4]!.bytes).toString(), "a-shell");
    assert.equal(results[1]!.address, shell.mm!.at("exe_file"));
    assert.equal(results[5]!.address, shell.mm!.va - 8n);
    assert.ok(results.every(({ error }) => error === ""));
  }
});

test("a chase that breaks says where, and later items go on", () => {
  const results = guest.read([
    item(MISSING, 8),
    { ...item(0n, 8), after: after(0, 0) },
    { ...item(0n, 8), after: after(1, 0) },
    item(mini.symbol("linux_banner"), 8),
    { ...item(0n, 8), after: after(3, 1) },
    { ...item(0n, 8), after: after(3, -8) },
    { ...item(0n, 8), after: after(-1, 0) },
  ]);
  assert.match(results[1]!.error, /no pointer at 0/);
  assert.match(results[2]!.error, /no pointer/);
  assert.equal(results[3]!.error, "");
  assert.match(results[4]!.error, /no pointer at 1/);
  assert.match(results[5]!.error, /no pointer at -8/);
  assert.match(results[6]!.error, /no pointer/);
});

test("batches that make no sense, or are too large, are refused whole", () => {
  const read = (items: ReadItem[]) => () => guest.read(items);
  const refused = { kind: "bad-request" };
  assert.throws(read([item(0n, MAX_READ + 1)]), refused);
  assert.throws(read([item(0n, -1)]), refused);
  assert.throws(read([item(0n, 0.5)]), refused);
  assert.throws(read([item(0n, Number.NaN)]), refused);
  assert.throws(read(Array.from({ length: MAX_ITEMS + 1 }, () => item(0n, 0))), refused);
  assert.throws(read(Array.from({ length: MAX_BATCH / MAX_READ + 1 }, () => item(0n, MAX_READ))), refused);
  assert.throws(read([{ ...item(0n, 8), after: after(0, 0) }]), { kind: "bad-request", message: /not earlier/ });
  assert.throws(read([item(0n, 8), { ...item(0n, 8), after: after(2, 0) }, item(0n, 8)]), refused);
  assert.equal(guest.read(Array.from({ length: MAX_ITEMS }, () => item(0n, 0))).length, MAX_ITEMS);
});

test("a process that there is none of", () => {
  for (const pid of [0, 301, 12345]) {
    const missing = { kind: "no-such-process", message: new RegExp(`no process ${pid}$`) };
    assert.throws(() => guest.read([item(0n, 1, { pid })]), missing);
    assert.throws(() => guest.translate([{ space: { pid }, address: 0n }]), missing);
  }
});

test("a process whose tables are gone", () => {
  const kept = mini.readPointer(init.mm!.at("pgd"));
  init.mm!.set("pgd", MISSING);
  assert.throws(() => guest.read([item(0n, 1, { pid: 1 })]), { kind: "inconsistent" });
  init.mm!.set("pgd", kept);
});

test("translations are those of the page tables", () => {
  for (const mmu of [fourLevel, fiveLevel]) {
    const { kernel: mini, init } = miniGuest({ mmu });
    const guest = attach(mini.ram.paged());
    const kernel = "kernel" as const;
    init.tables!.map(0x40_0000n, 0x5000, { writable: false, user: true, executable: true });
    init.tables!.mapProtNone(0x50_0000n, 0x5000);
    const [text, data, code, inaccessible, none, thread] = guest.translate([
      { space: kernel, address: mini.symbol("_stext") + 5n },
      { space: kernel, address: mini.initTask.va },
      { space: { pid: 1 }, address: 0x40_0123n },
      { space: { pid: 1 }, address: 0x50_0000n },
      { space: kernel, address: 0x40_0123n },
      { space: { pid: 2 }, address: mini.initTask.va },
    ]);
    const image = { mapped: true, pageSize: 2 << 20, writable: true, user: false, executable: true };
    assert.deepEqual(text, { ...image, gpa: mini.gpa(mini.symbol("_stext")) + 5 });
    assert.deepEqual(data, { ...image, gpa: mini.gpa(mini.initTask.va) });
    assert.deepEqual(code, {
      mapped: true,
      gpa: 0x5123,
      pageSize: 4096,
      writable: false,
      user: true,
      executable: true,
    });
    assert.deepEqual(inaccessible, { mapped: false, error: "0x500000 is not mapped" });
    assert.deepEqual(none, { mapped: false, error: "0x400123 is not mapped" });
    assert.deepEqual(thread, data);
  }
  assert.throws(() => guest.translate([{ space: "physical", address: 0n }]), { kind: "bad-request" });
  const many = Array.from({ length: MAX_TRANSLATIONS + 1 }, () => ({ space: "kernel" as const, address: 0n }));
  assert.throws(() => guest.translate(many), { kind: "bad-request" });
});

test("symbols by name and by address", () => {
  const banner = mini.symbol("linux_banner");
  assert.deepEqual(
    guest.symbols(["linux_banner", "none", "_stext", "linux_banner"]).map((symbol) => symbol?.address),
    [banner, undefined, mini.symbol("_stext"), banner],
  );
  assert.deepEqual(
    guest.symbolsAt([banner, banner + 3n, 0n]).map((symbol) => symbol?.name),
    ["linux_banner", "linux_banner", undefined],
  );
  const last = [...guest.kernel.kallsyms].reduce((most, { address }) => (address > most ? address : most), 0n);
  assert.equal(guest.symbolsAt([last + (1n << 20n)])[0]?.address, last);
  assert.deepEqual(
    // A program's code, the heap, the last address, and what lies behind the image.
    guest.symbolsAt([0x40_0000n, MISSING, (1n << 64n) - 1n, last + 1n + (1n << 20n)]),
    [undefined, undefined, undefined, undefined],
  );
  assert.throws(() => guest.symbols(Array.from({ length: MAX_SYMBOLS + 1 }, () => "x")), { kind: "bad-request" });
  assert.throws(() => guest.symbolsAt(Array.from({ length: MAX_SYMBOLS + 1 }, () => 0n)), { kind: "bad-request" });
});

test("reads and translations spend from the budget", () => {
  const long = Array.from({ length: 16 }, () => item(mini.symbol("_stext"), MAX_READ));
  assert.throws(() => guest.read(long, new Budget(60_000, 4095)), { kind: "over-budget" });
  const many = Array.from({ length: 5000 }, () => ({ space: "kernel" as const, address: 0n }));
  assert.throws(() => guest.translate(many, new Budget(60_000, 100)), { kind: "over-budget" });
});

test("every question sees the guest as it is then", () => {
  for (const guest of guests) {
    const name = () => Buffer.from(guest.read([item(kthread.task.at("comm"), 8)])[0]!.bytes).toString();
    assert.equal(name(), "kthreadd");
    kthread.task.set("comm", Buffer.from("otherwis"));
    assert.equal(name(), "otherwis");
    kthread.task.set("comm", Buffer.from("kthreadd"));
  }
});
