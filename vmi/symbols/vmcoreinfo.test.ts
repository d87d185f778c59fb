import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PAGE_SIZE } from "../bytes/address.ts";
import { Ram } from "../testing/ram.ts";
import { vmcoreinfoNote, vmcoreinfoText } from "../testing/vmcoreinfo-writer.ts";
import { findVmcoreinfo, numberField, offsetField, parseNote, symbolField, type Vmcoreinfo } from "./vmcoreinfo.ts";

const text = vmcoreinfoText({
  OSRELEASE: "6.12.1",
  "BUILD-ID": "00ff",
  "SYMBOL(_stext)": "ffffffff81000000",
  "NUMBER(phys_base)": "-123",
  "NUMBER(sme_mask)": "140737488355328",
  "NUMBER(KERNEL_IMAGE_SIZE)": "0x40000000",
  "OFFSET(uts_namespace.name)": "4",
  "OFFSET(list_head.next)": "-4",
  "NUMBER(odd)": "12 34",
  "SYMBOL(odd)": "ffffffff8100000000",
});

function pageOf(bytes: Uint8Array): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE);
  page.set(bytes.subarray(0, PAGE_SIZE));
  return page;
}

test("a note and a plain copy of its text say the same", () => {
  for (const bytes of [vmcoreinfoNote(text), Buffer.from(text)]) {
    const note = parseNote(pageOf(bytes), 0x5000)!;
    assert.equal(note.gpa, 0x5000);
    assert.equal(note.text, text);
    assert.equal(note.fields.get("OSRELEASE"), "6.12.1");
    assert.equal(symbolField(note, "_stext"), 0xffff_ffff_8100_0000n);
    assert.equal(numberField(note, "phys_base"), -123n);
    assert.equal(numberField(note, "sme_mask"), 1n << 47n);
    assert.equal(numberField(note, "KERNEL_IMAGE_SIZE"), 0x4000_0000n);
    assert.equal(offsetField(note, "uts_namespace.name"), 4);
  }
});

test("values that are none are not taken for some", () => {
  const note = parseNote(pageOf(vmcoreinfoNote(text)), 0)!;
  assert.equal(offsetField(note, "list_head.next"), undefined);
  assert.equal(numberField(note, "odd"), undefined);
  assert.equal(symbolField(note, "odd"), undefined);
  assert.equal(symbolField(note, "absent"), undefined);
  assert.equal(numberField(note, "absent"), undefined);
  assert.equal(offsetField(note, "absent"), undefined);
});

test("what only looks like a note is none", () => {
  const other = vmcoreinfoNote(text);
  other[12] = 0x77;
  for (const bytes of [
    other,
    vmcoreinfoNote("CPU=1\n"),
    vmcoreinfoNote(""),
    Buffer.from("OSRE"),
    Buffer.from("OSRELEASX=1\n"),
    vmcoreinfoNote(text, 0),
    vmcoreinfoNote(text, 5),
  ]) {
    assert.equal(parseNote(pageOf(bytes), 0), undefined);
  }
});

test("a note that is cut keeps what is left of it", () => {
  const cut = parseNote(pageOf(vmcoreinfoNote(text, 24)), 0)!;
  assert.equal(cut.text, text.slice(0, 24));
  assert.equal(symbolField(cut, "_stext"), undefined);
  const long = parseNote(pageOf(vmcoreinfoNote(`${text}${"X=1\n".repeat(2000)}`)), 0)!;
  assert.equal(long.text.length, PAGE_SIZE - 24);
});

test("any bytes at all: a note or none, and never an exception", () => {
  const whole = Buffer.from(vmcoreinfoNote(text));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(whole.length), fc.nat(whole.length), (noise, at, length) => {
      const bytes = Buffer.from(whole.subarray(0, length));
      bytes.set(noise.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
      const note = parseNote(bytes, 0);
      if (note !== undefined) assert.ok(note.text.startsWith("OSRELEASE="));
    }),
    { examples: [[new Uint8Array(), 0, 0]] },
  );
});

function find(ram: Ram, wanted: (note: Vmcoreinfo) => boolean = () => false, paged = false): number[] {
  const found: number[] = [];
  findVmcoreinfo(paged ? ram.paged() : ram.mapped(), (note) => {
    found.push(note.gpa);
    return wanted(note);
  });
  return found;
}

test("every page that begins with a note is found, across the pieces of a scan and the ranges", () => {
  const ram = new Ram([
    [0, 3 << 20],
    [4 << 20, 1 << 20],
  ]);
  const places = [0, 0x7000, (1 << 20) - PAGE_SIZE, 1 << 20, (3 << 20) - PAGE_SIZE, (5 << 20) - PAGE_SIZE];
  places.forEach((gpa, i) => {
    ram.bytes.set(i % 2 === 0 ? vmcoreinfoNote(text) : Buffer.from(text), gpa);
  });
  ram.bytes.set(vmcoreinfoNote(text), 0x9010);
  ram.bytes.set(vmcoreinfoNote("nothing"), 0x1_1000);
  for (const paged of [false, true]) {
    assert.deepEqual(find(ram, undefined, paged), places);
    assert.deepEqual(
      find(ram, ({ gpa }) => gpa === 1 << 20, paged),
      places.slice(0, 4),
    );
  }
});

test("memory that can't be read in part is searched in the rest", () => {
  const ram = new Ram([[0, 4 << 20]]);
  for (const gpa of [0x3000, 2 << 20]) ram.bytes.set(vmcoreinfoNote(text), gpa);
  const memory = ram.paged((gpa) => gpa === 0x5000);
  const found: number[] = [];
  findVmcoreinfo(memory, ({ gpa }) => {
    found.push(gpa);
    return false;
  });
  assert.deepEqual(found, [0x3000, 2 << 20]);
});
