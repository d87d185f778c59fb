import assert from "node:assert/strict";
import { test } from "node:test";
import { compareText, judgeSites, type TextJudges } from "./compare-text.ts";
import { SiteList } from "./patch-sites.ts";
import type { TextReference } from "./text-reference.ts";

const LINKED = 0x8100_0000;
const MOVED = 0x1a00_0000;
const START = LINKED + MOVED;
const SIZE = 4096;
const MODULE = 0xc000_1000;
const ROGUE = 0xc010_0000;
const REPLACEMENTS = 0x8300_0000;

const judges: TextJudges = {
  mayCall: (address) => (address >= START && address < START + SIZE) || address === MODULE,
  isTracer: (address) => address === START + 0x800,
  codeAt: () => undefined,
  otherwise: () => 0,
};

/** Text of int3 but for what is written; every kind of place is at another multiple of 64. */
function reference(): TextReference {
  const bytes = Buffer.alloc(SIZE, 0x90);
  const replacement = Buffer.from("e80000000090", "hex");
  const sites = new SiteList();
  const place = (kind: Parameters<SiteList["add"]>[0], offset: number, code: string, other = 0, otherLength = 0) => {
    bytes.write(code, offset, "hex");
    sites.add(kind, LINKED + offset, code.length / 2, other, otherLength);
  };
  place("ftrace", 0x000, "e8fb070000");
  place("jump-label", 0x040, "eb10", LINKED + 0x052);
  place("static-call", 0x080, "e87b000000");
  place("static-trampoline", 0x100, "e9000000000fb9cc");
  place("alternative", 0x140, "9090909090", REPLACEMENTS, 5);
  place("retpoline", 0x180, "e800000000");
  place("return", 0x1c0, "e900000000");
  place("endbr", 0x200, "f30f1efa");
  place("lock", 0x240, "f0");
  place("constant", 0x280, "1122334455667788");
  sites.sort();
  // The replacement calls what is at 0x400.
  replacement.writeInt32LE(LINKED + 0x400 - REPLACEMENTS - 5, 1);
  return {
    bytes,
    start: START,
    moved: MOVED,
    sites,
    replacements: { name: ".altinstr_replacement", address: REPLACEMENTS, bytes: replacement },
    settled: Buffer.from(bytes),
  };
}

function changed({ bytes }: TextReference, changes: Record<number, string>): Buffer {
  const found = Buffer.from(bytes);
  for (const [offset, code] of Object.entries(changes)) found.write(code, Number(offset), "hex");
  return found;
}

/** Offsets of what is no change of the kernel's own, in text with bytes written into it. */
function differences(changes: Record<number, string>, text = reference()): number[] {
  return compareText(text, changed(text, changes), judges).map(({ from }) => from);
}

function call(from: number, to: number, opcode = "e8"): string {
  const distance = Buffer.alloc(4);
  distance.writeInt32LE((to - (START + from + 5)) | 0);
  return opcode + distance.toString("hex");
}

test("what the kernel makes of its text is no difference, in each of its states", () => {
  const states: Record<number, string>[] = [
    { 0: "0f1f440000", 64: "6690", 128: call(128, MODULE), 256: "c3cccccccc" },
    { 0: call(0, START + 0x800), 128: "2e2e2e31c0", 256: call(256, START + 0x300, "e9") },
    { 320: call(320, START + 0x400), 384: "ffd00f1f00", 448: "c3cccccccc" },
    { 320: "0f1f440000", 384: "0faee8ffe0", 448: call(448, START + 0x10, "e9") },
    { 512: "660f1f00", 576: "3e", 640: "00112233445566ff" },
  ];
  const text = reference();
  assert.deepEqual(differences({}, text), []);
  for (const state of [...states, ...states]) assert.deepEqual(differences(state, text), [], JSON.stringify(state));
});

test("anything else at these places is one, and so is a change elsewhere", () => {
  const changes: Record<number, string> = {
    0: call(0, ROGUE),
    64: "eb20",
    128: call(128, ROGUE),
    256: call(256, ROGUE, "e9"),
    320: call(320, ROGUE),
    384: call(384, ROGUE),
    448: call(448, ROGUE, "e9"),
    512: "e9000000",
    576: "cc",
    768: "cc",
  };
  for (const [offset, code] of Object.entries(changes)) {
    const found = differences({ [Number(offset)]: code });
    assert.equal(found.length, 1, `${offset}: ${code}`);
    assert.ok(found[0]! >= Number(offset) && found[0]! < Number(offset) + 8);
  }
  assert.equal(differences(changes).length, Object.keys(changes).length);
});

test("a place that is half in one state and half in another is a difference, also once each state was seen", () => {
  const text = reference();
  assert.deepEqual(differences({ 448: "c3cccccccc" }, text), []);
  assert.equal(differences({ 448: "c300000000" }, text).length, 1);
  assert.equal(differences({ 448: "e9cccccccc" }, text).length, 1);
});

test("a probe accounts for as much as it says", () => {
  const text = reference();
  const found = compareText(text, changed(text, { 768: "cccc" }), {
    ...judges,
    otherwise: (offset) => (offset === 0x300 ? 1 : 0),
  });
  assert.deepEqual(found, [{ from: 0x301, to: 0x302 }]);
});

test("places that change while the kernel runs are judged by what they hold alone", () => {
  const text = reference();
  const sites = new SiteList();
  // Where the guest has them.
  for (const { kind, at, length, other } of text.sites) sites.add(kind, at + MOVED, length, other && other + MOVED);
  sites.sort();
  const judged = (changes: Record<number, string>, told = [{ from: 0x900, to: 0x901 }], most = 100) =>
    judgeSites(START, changed(text, changes), sites, judges, told, most);
  const strange = (changes: Record<number, string>) =>
    judged(changes).strange.map(({ kind, at }) => [kind, at - START]);
  // As linked, but for the call of the tracer, which no running kernel has.
  const own = { 0: "0f1f440000" };
  assert.deepEqual(strange(own), []);
  assert.deepEqual(strange({ ...own, 64: "6690", 128: call(128, MODULE) }), []);
  assert.deepEqual(strange({ 0: call(0, ROGUE), 64: "eb20", 128: call(128, ROGUE) }), [
    ["ftrace", 0],
    ["jump-label", 64],
    ["static-call", 128],
  ]);
  // What changes only as the kernel starts is not looked at, and neither is what is no place of change.
  assert.deepEqual(strange({ ...own, 320: call(320, ROGUE), 448: "cccccccccc", 768: "cc" }), []);
  // A jump that begins with the last byte of a place, or ends behind the text, is none of the kernel's.
  assert.deepEqual(strange({ ...own, 64: "90eb" }), [["jump-label", 64]]);
  const all = { 0: call(0, ROGUE), 64: "eb20", 128: call(128, ROGUE) };
  assert.equal(judged(all, [{ from: 60, to: 70 }]).strange.length, 2, "what was told is not told again");
  assert.equal(judged(all, [], 1).strange.length, 1);
  assert.ok(judged(own).lasting);
  assert.equal(judged({ 0: call(0, START + 0x800) }).lasting, false, "a call of the tracer");
  assert.equal(judged({ ...own, 128: call(128, MODULE) }).lasting, false, "a call of a module");
});
