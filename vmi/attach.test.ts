import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { fiveLevel, fourLevel } from "./arch/x86-64.ts";
import { PAGE_SIZE } from "./bytes/address.ts";
import { attach } from "./guest.ts";
import type { PhysicalMemory } from "./memory/physical-memory.ts";
import { Btf } from "./symbols/btf.ts";
import { isfOf } from "./testing/isf-writer.ts";
import { miniGuest } from "./testing/mini-guest.ts";
import { MINI_RAM, MiniKernel } from "./testing/mini-kernel.ts";
import { Ram } from "./testing/ram.ts";
import { vmcoreinfoNote, vmcoreinfoText } from "./testing/vmcoreinfo-writer.ts";

const views = (ram: Ram): PhysicalMemory[] => [ram.mapped(), ram.paged()];

function refused(ram: Ram, kind: string, message = /./): void {
  for (const memory of views(ram)) {
    assert.throws(() => attach(memory), { name: "GuestError", kind, message });
  }
}

for (const mmu of [fourLevel, fiveLevel]) {
  for (const flavour of ["6.1", "6.13"] as const) {
    for (const encoding of ["base", "percpu", "place"] as const) {
      test(`${mmu.name}, structures of ${flavour}, symbols ${encoding}: found with no help`, () => {
        const { kernel } = miniGuest({ mmu, flavour, encoding, kaslr: 0x700_0000n });
        for (const memory of views(kernel.ram)) {
          const guest = attach(memory);
          assert.equal(guest.kernel.release, "6.13.0-mini");
          assert.equal(guest.kernel.kaslrOffset, 0x700_0000);
          assert.equal(guest.kernel.physBase, kernel.physBase());
          assert.equal(guest.kernel.space.mmu, mmu);
          assert.deepEqual(
            guest.symbols(["init_task", "none"]).map((symbol) => symbol?.address),
            [kernel.initTask.va, undefined],
          );
          assert.equal(guest.table("processes").rows, 3);
          assert.equal(guest.isCurrent(), true);
        }
      });
    }
  }
}

test("a kernel under SME: its own tables and those of its processes", () => {
  for (const smeMask of [1n << 47n, 1n << 51n]) {
    const { kernel } = miniGuest({ smeMask });
    const guest = attach(kernel.ram.mapped());
    assert.equal(guest.table("process_envs").rows, 5);
    assert.equal(guest.table("process_envs").incomplete, false);
  }
});

test("a plain copy of the note does as well", () => {
  const { kernel } = miniGuest();
  const { ram, noteGpa } = kernel;
  ram.bytes.copyWithin(noteGpa, noteGpa + 24, noteGpa + PAGE_SIZE);
  assert.equal(attach(ram.mapped()).table("processes").rows, 3);
});

test("a note that the page tables contradict proves nothing", () => {
  const wrong: Record<string, Record<string, string>> = {
    "swapper elsewhere": { "SYMBOL(swapper_pg_dir)": "ffffffff93001000" },
    "swapper outside RAM": { "SYMBOL(swapper_pg_dir)": "ffffffffa3001000" },
    "swapper below RAM": { "SYMBOL(swapper_pg_dir)": "1000" },
    "text not mapped": { "SYMBOL(_stext)": "ffffffff83001000" },
    "another base": { "NUMBER(phys_base)": "0" },
    "an absurd base": { "NUMBER(phys_base)": `-${"9".repeat(300)}` },
    "another depth": { "NUMBER(pgtable_l5_enabled)": "1" },
    "another encryption": { "NUMBER(sme_mask)": "2097152", "NUMBER(phys_base)": "0" },
  };
  for (const [what, changed] of Object.entries(wrong)) {
    const { kernel } = miniGuest();
    kernel.writeNote(changed);
    assert.throws(() => attach(kernel.ram.mapped()), { kind: "not-running", message: /6\.13\.0-mini/ }, what);
  }
});

test("page tables that are gone, or lead elsewhere, are no proof", () => {
  for (const entry of [0n, 0x60_0083n]) {
    const { kernel } = miniGuest();
    kernel.tables.setEntry(kernel.imageVa, entry, 21);
    refused(kernel.ram, "not-running", /its page tables are not/);
  }
  const { kernel } = miniGuest();
  kernel.ram.bytes.fill(0, kernel.tables.pgd, kernel.tables.pgd + PAGE_SIZE);
  refused(kernel.ram, "not-running");
});

test("a kernel whose own name has been overwritten is not running", () => {
  for (const name of ["6.13.1-mini\0", "6.13.0-mini-and-more\0", "6.13.0-min\0", "\0"]) {
    const { kernel } = miniGuest();
    kernel.uts.set("name.release", Buffer.from(name));
    refused(kernel.ram, "not-running", /overwritten/);
  }
});

test("a kernel whose list of tasks has been overwritten is not running", () => {
  for (const members of [["tasks.next", "tasks.prev"], ["tasks.next"], ["tasks.prev"]]) {
    const { kernel } = miniGuest();
    for (const member of members) kernel.initTask.set(member, 0x1000);
    refused(kernel.ram, "not-running", /overwritten/);
  }
});

test("a note that lacks what the proof needs", () => {
  for (const key of ["NUMBER(phys_base)", "SYMBOL(swapper_pg_dir)", "SYMBOL(_stext)", "SYMBOL(init_uts_ns)"]) {
    const { kernel } = miniGuest();
    kernel.writeNote({ [key]: "" });
    refused(kernel.ram, "not-running", /lacks a needed entry/);
  }
});

test("a release that would write to a terminal is not passed on", () => {
  for (const release of ["", "6.1\u001b[2J", "6.1 beta", "x".repeat(65)]) {
    const ram = new Ram(MINI_RAM);
    ram.bytes.set(vmcoreinfoNote(vmcoreinfoText({ OSRELEASE: release, "NUMBER(phys_base)": "0" })), PAGE_SIZE);
    assert.throws(
      () => attach(ram.mapped()),
      (error: Error) => {
        assert.match(error.message, /^[\x20-\x7e]{1,200}$/);
        return true;
      },
    );
  }
});

test("notes that a program of the guest put into its memory do not hide the kernel", () => {
  const { kernel } = miniGuest();
  const fake = vmcoreinfoText({ ...kernel.vmcoreinfo(), OSRELEASE: "9.9.9" });
  for (let i = 0; i < 100; i++) {
    kernel.ram.bytes.set(i % 2 === 0 ? vmcoreinfoNote(fake) : Buffer.from("OSRELEASE=8\n"), i * PAGE_SIZE);
  }
  assert.ok(kernel.noteGpa > 100 * PAGE_SIZE);
  for (const memory of views(kernel.ram)) assert.equal(attach(memory).kernel.release, "6.13.0-mini");
});

test("kernels that lack what the engine needs say what it is", () => {
  const kinds: [MiniKernel, RegExp][] = [
    [miniGuest({ types: false }).kernel, /type information \(CONFIG_DEBUG_INFO_BTF\); supply the BTF or ISF file/],
    [
      miniGuest({ functionsOnly: true }).kernel,
      /holds functions only \(CONFIG_KALLSYMS_ALL is needed\); supply the ISF file of this very build \(build id 0123/,
    ],
    [
      miniGuest({ kallsyms: false }).kernel,
      /no symbol table that can be found \(CONFIG_KALLSYMS is needed\); supply the ISF file of this/,
    ],
    [miniGuest().kernel, /not in its image/],
    [miniGuest().kernel, /symbol table does not hold _stext/],
  ];
  kinds[3]![0].writeNote({ "SYMBOL(kallsyms_token_table)": "ffffffffffffff00" });
  kinds[4]![0].writeNote({ "SYMBOL(kallsyms_names)": (kinds[4]![0].symbol("kallsyms_names") + 3n).toString(16) });
  for (const [kernel, message] of kinds) refused(kernel.ram, "unsupported-kernel", message);
});

test("types are supplied where a kernel carries none: BTF, or ISF, packed or not", () => {
  const { kernel } = miniGuest({ types: false });
  const btf = kernel.types.btf.bytes();
  for (const types of [btf, gzipSync(btf), isfOf(new Btf(btf)), gzipSync(isfOf(new Btf(btf)))]) {
    for (const memory of views(kernel.ram)) {
      const guest = attach(memory, { types });
      assert.equal(guest.table("processes").rows, 3);
      assert.equal(guest.type("task_struct").name, "task_struct");
      const known = attach(memory, { types, profiles: [guest.profile] });
      assert.equal(known.profileWasCached, true);
      assert.equal(known.table("processes").rows, 3);
      // A profile is of the types that it was made from.
      const other = gzipSync(Buffer.concat([btf, Buffer.alloc(4)]));
      assert.equal(attach(memory, { types: other, profiles: [guest.profile] }).profileWasCached, false);
    }
  }
});

test("supplied types take the place of the kernel's own, and types of another kernel are refused", () => {
  const { kernel } = miniGuest({ flavour: "6.1" });
  const refuse = (types: Uint8Array, kind: string, message: RegExp) =>
    assert.throws(() => attach(kernel.ram.mapped(), { types }), { name: "GuestError", kind, message });
  const shifted = Buffer.from(isfOf(new Btf(kernel.types.btf.bytes())))
    .toString()
    .replaceAll(/"offset":(\d+)/g, (_all, offset: string) => `"offset":${Number(offset) + 64}`);
  refuse(Buffer.from(shifted), "unsupported-kernel", /that were supplied do not fit/);
  refuse(Buffer.from("{}"), "bad-request", /damaged ISF/);
  refuse(Buffer.from('{"user_types": {"a": '), "bad-request", /damaged ISF/);
  refuse(Buffer.from("nothing"), "bad-request", /neither BTF nor ISF/);
  refuse(Buffer.from("\xfd7zXZ\0", "latin1"), "bad-request", /xz -d/);
  refuse(Uint8Array.of(0x1f, 0x8b, 0), "bad-request", /can't be unpacked/);
  const btf = Buffer.from(kernel.types.btf.bytes());
  refuse(btf.subarray(0, btf.length - 1), "bad-request", /types that were supplied are damaged/);
  const flipped = Buffer.from(btf);
  // The kind of the first type.
  flipped.writeUInt8(0xff, 24 + 7);
  for (const file of [flipped, gzipSync(flipped)]) refuse(file, "bad-request", /types that were supplied are damaged/);
});

test("a kernel that has no process yet is starting", () => {
  refused(new MiniKernel().finish().ram, "booting", /6\.13\.0-mini/);
});

test("memory without a kernel: empty, of another system, encrypted", () => {
  const ram = new Ram(MINI_RAM);
  refused(ram, "no-kernel");
  for (let gpa = 0; gpa < 1 << 20; gpa += PAGE_SIZE) ram.bytes.set(Buffer.alloc(1000, "another system"), gpa);
  refused(ram, "no-kernel");
  const real = { index: 0, registers: { cr0: 0x10n, cr3: 0n, cr4: 0n } };
  assert.throws(() => attach(ram.mapped(), { registers: [real] }), { kind: "no-kernel", message: /paging/ });
  randomFillSync(ram.bytes);
  refused(ram, "encrypted");
  assert.throws(() => attach(ram.mapped(), { image: true }), { kind: "encrypted", message: /or not a memory image/ });
  ram.bytes.fill(0);
  assert.throws(() => attach(ram.mapped(), { image: true }), { kind: "no-kernel", message: /in the image/ });
});

test("a guest that was reset is no longer the one that was attached to", () => {
  const { kernel } = miniGuest();
  for (const memory of views(kernel.ram)) {
    kernel.writeNote();
    const guest = attach(memory);
    assert.equal(guest.isCurrent(), true);
    kernel.writeNote({ "BUILD-ID": "another" });
    assert.equal(guest.isCurrent(), false);
    kernel.ram.bytes.fill(0, kernel.noteGpa, kernel.noteGpa + PAGE_SIZE);
    assert.equal(guest.isCurrent(), false);
  }
});
