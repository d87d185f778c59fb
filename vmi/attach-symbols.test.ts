// Kernels whose symbols VMCOREINFO does not lead to: found in the image, or supplied as a file.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { START_KERNEL_MAP } from "./arch/x86-64.ts";
import { FileMissing } from "./errors.ts";
import { attach } from "./guest.ts";
import { Btf } from "./symbols/btf.ts";
import { type IsfSymbol, isfOf } from "./testing/isf-writer.ts";
import { miniGuest } from "./testing/mini-guest.ts";
import { MiniKernel } from "./testing/mini-kernel.ts";
import { addProcess } from "./testing/mini-objects.ts";
import { vmcoreinfoNote, vmcoreinfoText } from "./testing/vmcoreinfo-writer.ts";

const KASLR = 0x340_0000n;
const BUILD_ID = "0123456789abcdef0123456789abcdef01234567";

for (const order of ["6.4", "6.2", "4.20"] as const) {
  for (const encoding of ["base", "percpu", "whole"] as const) {
    if (order === "6.4" && encoding === "whole") continue;
    test(`symbols in the order of ${order}, ${encoding}, of which VMCOREINFO says nothing`, () => {
      const { kernel } = miniGuest({ flavour: "6.1", order, encoding, told: false });
      for (const memory of [kernel.ram.mapped(), kernel.ram.paged()]) {
        const guest = attach(memory);
        assert.equal(guest.profileWasCached, false);
        assert.equal(guest.table("processes").rows, 3);
        assert.equal(guest.symbols(["modules"])[0]?.address, kernel.modules);
        const moved = miniGuest({ flavour: "6.1", order, encoding, told: false, kaslr: KASLR }).kernel;
        const known = attach(moved.ram.mapped(), { profiles: [guest.profile] });
        assert.equal(known.profileWasCached, true);
        assert.equal(known.symbols(["modules"])[0]?.address, moved.modules);
      }
    });
  }
}

test("a profile whose symbols were elsewhere leads to a search", () => {
  const { kernel } = miniGuest({ told: false });
  const first = attach(kernel.ram.mapped());
  for (const symbolHint of [[], [0], [-(2 ** 40)], [5, 6, 7]]) {
    const profile = { ...JSON.parse(Buffer.from(first.profile).toString()), symbolHint };
    const guest = attach(kernel.ram.mapped(), { profiles: [Buffer.from(JSON.stringify(profile))] });
    assert.equal(guest.profileWasCached, true);
    assert.equal(guest.table("processes").rows, 3);
  }
});

test("a table that does not have init_uts_ns where VMCOREINFO says is not the kernel's", () => {
  const { kernel } = miniGuest({ told: false });
  const other = kernel.image("", kernel.uts.type.size);
  kernel.write(other, kernel.read(kernel.uts.va, kernel.uts.type.size));
  kernel.writeNote({ "SYMBOL(init_uts_ns)": other.toString(16) });
  assert.throws(() => attach(kernel.ram.mapped()), {
    kind: "unsupported-kernel",
    message: /CONFIG_KALLSYMS is needed/,
  });
});

test("kernels before 5.9: VMCOREINFO has no build id, and none of where the name in uts_namespace is", () => {
  for (const noted of [true, false]) {
    const kernel = new MiniKernel({ order: "4.20", told: false });
    addProcess(kernel, { pid: 1, comm: "init" });
    const { va } = kernel.uts;
    kernel.write(va + 4n, Buffer.from(kernel.read(va, 390)));
    const other = Buffer.from("\x06\0\0\0\x03\0\0\0\x03\0\0\0Linux\0\0\0abc\0", "latin1");
    const build = Buffer.from("\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0", "latin1");
    const notes = Buffer.concat([other, build, Buffer.from(BUILD_ID, "hex")]);
    if (noted) {
      kernel.write(kernel.image("__start_notes", notes.length, "R"), notes);
      kernel.image("__stop_notes", 0, "R", 1);
    }
    kernel.finish();
    const { "BUILD-ID": _, "OFFSET(uts_namespace.name)": __, ...fields } = kernel.vmcoreinfo();
    kernel.ram.bytes.fill(0, kernel.noteGpa, kernel.noteGpa + 4096);
    kernel.ram.bytes.set(vmcoreinfoNote(vmcoreinfoText(fields)), kernel.noteGpa);
    const guest = attach(kernel.ram.mapped());
    assert.equal(guest.table("processes").rows, 1);
    assert.equal(guest.kernel.buildId, noted ? BUILD_ID : "");
    assert.equal(attach(kernel.ram.paged(), { profiles: [guest.profile] }).profileWasCached, true);
  }
});

test("BTF by the names that it had before 5.7", () => {
  const kernel = new MiniKernel({ order: "4.20", told: false, types: false });
  addProcess(kernel, { pid: 1, comm: "init" });
  const types = kernel.types.btf.bytes();
  kernel.write(kernel.image("_binary__btf_vmlinux_bin_start", types.length, "D"), types);
  kernel.image("_binary__btf_vmlinux_bin_end", 0, "D", 1);
  assert.equal(attach(kernel.finish().ram.mapped()).table("processes").rows, 1);
});

/** As the linker left them, with all that a System.map has. */
function linked(kernel: MiniKernel, banner = false): IsfSymbol[] {
  return kernel.symbols
    .filter(({ name }) => !name.startsWith("kallsyms_"))
    .map(({ name, address }) => ({
      name,
      address: address >= START_KERNEL_MAP ? address - kernel.options.kaslr : address,
      ...(banner && name === "linux_banner" ? { data: kernel.read(address, 80) } : {}),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

const isf = (kernel: MiniKernel, symbols: readonly IsfSymbol[]) =>
  gzipSync(isfOf(new Btf(kernel.types.btf.bytes()), symbols));

test("an ISF gives the symbols where a kernel has none, or functions only, wherever KASLR put it", () => {
  for (const options of [{ kallsyms: false }, { functionsOnly: true }, { functionsOnly: true, told: false }]) {
    for (const banner of [false, true]) {
      const { kernel } = miniGuest({ ...options, types: false, encoding: "percpu" });
      const file = isf(kernel, linked(kernel, banner));
      const guest = attach(kernel.ram.mapped(), { types: file });
      assert.equal(guest.table("processes").rows, 3);
      assert.deepEqual(
        guest.symbols(["modules", "pcpu_hot"]).map((symbol) => [symbol?.name, symbol?.type, symbol?.address]),
        [
          ["modules", "?", kernel.modules],
          ["pcpu_hot", "?", 0x1_f000n],
        ],
      );
      assert.equal(guest.symbolsAt([kernel.symbol("do_sys_open") + 3n])[0]?.name, "do_sys_open");
      const moved = miniGuest({ ...options, types: false, encoding: "percpu", kaslr: KASLR }).kernel;
      for (const memory of [moved.ram.mapped(), moved.ram.paged()]) {
        const known = attach(memory, { types: file, profiles: [guest.profile] });
        assert.equal(known.profileWasCached, true);
        assert.equal(known.symbols(["modules"])[0]?.address, moved.modules);
        assert.equal(known.table("processes").rows, 3);
      }
    }
  }
});

test("a kernel's own symbols are preferred to those of a file", () => {
  for (const told of [true, false]) {
    const { kernel } = miniGuest({ told });
    const wrong = linked(kernel).map((symbol) => ({ ...symbol, address: symbol.address + 64n }));
    const guest = attach(kernel.ram.mapped(), { types: isf(kernel, wrong) });
    assert.deepEqual(
      guest.symbols(["modules"]).map((symbol) => [symbol?.address, symbol?.type]),
      [[kernel.modules, "D"]],
    );
  }
});

test("the symbols of another build are refused in one line", () => {
  const { kernel } = miniGuest({ kallsyms: false });
  const good = linked(kernel, true);
  const change = (name: string, changed: (symbol: IsfSymbol) => IsfSymbol[]) =>
    good.flatMap((symbol) => (symbol.name === name ? changed(symbol) : [symbol]));
  const wrong: Record<string, readonly IsfSymbol[]> = {
    "_stext elsewhere": change("_stext", (symbol) => [{ ...symbol, address: symbol.address + 64n }]),
    "init_uts_ns elsewhere": change("init_uts_ns", (symbol) => [{ ...symbol, address: symbol.address + 8n }]),
    "another banner": change("linux_banner", (symbol) => [
      { ...symbol, data: Buffer.from("Linux version 6.13.0-mini (other)") },
    ]),
    "no banner": change("linux_banner", () => []),
    "banner elsewhere": change("linux_banner", ({ name }) => [{ name, address: 8n }]),
    "no init_task": change("init_task", () => []),
    "addresses of a kernel that KASLR has moved": good.map((symbol) => ({
      ...symbol,
      address: symbol.address + KASLR,
    })),
  };
  for (const [what, symbols] of Object.entries(wrong)) {
    const attempt = () => attach(kernel.ram.mapped(), { types: isf(kernel, symbols) });
    const message = "the symbols that were supplied do not fit Linux 6.13.0-mini: they have to be of this very build";
    assert.throws(attempt, { name: "GuestError", kind: "unsupported-kernel", message }, what);
  }
});

test("what a file lacks too is still missing, and is named", () => {
  const types = miniGuest().kernel.types.btf.bytes();
  const lacking: [Parameters<typeof miniGuest>[0], Uint8Array | undefined, "types" | "symbols"][] = [
    [{ types: false }, undefined, "types"],
    [{ functionsOnly: true }, undefined, "symbols"],
    [{ functionsOnly: true }, types, "symbols"],
    [{ functionsOnly: true }, isfOf(new Btf(types)), "symbols"],
    [{ kallsyms: false }, undefined, "symbols"],
    [{ kallsyms: false }, types, "symbols"],
  ];
  for (const [options, supplied, what] of lacking) {
    const { kernel } = miniGuest(options);
    assert.throws(
      () => attach(kernel.ram.mapped(), supplied ? { types: supplied } : {}),
      (error) => error instanceof FileMissing && error.lacking === what && error.buildId === BUILD_ID,
    );
  }
});
