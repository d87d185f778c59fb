// A kernel whose own types, or symbols, can't be used, read with a file that supplies them: images of a real guest with its
// BTF damaged, with the names of its data hidden, and with no symbol table at all.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { createInspection } from "../../agent/inspection.ts";
import { noProfileStore } from "../../agent/profiles.ts";
import { inspectorProgram } from "../../agent/program.ts";
import { probeSandbox } from "../../agent/sandbox/layers.ts";
import { typeFiles } from "../../agent/type-files.ts";
import { GuestService, LookupSymbolsRequestSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { START_KERNEL_MAP } from "../../vmi/arch/x86-64.ts";
import { openImage } from "../../vmi/driver/image/index.ts";
import { attach, FileMissing, type Guest, openMemory, type PhysicalMemory } from "../../vmi/index.ts";
import { imageGpa } from "../../vmi/linux/kernel.ts";
import { Btf } from "../../vmi/symbols/btf.ts";
import { entryHeader } from "../../vmi/symbols/kallsyms.ts";
import { findVmcoreinfo, symbolField, type Vmcoreinfo } from "../../vmi/symbols/vmcoreinfo.ts";
import { type IsfSymbol, isfOf } from "../../vmi/testing/isf-writer.ts";
import { Encoded } from "../../wire/index.ts";
import { type Row, read, rowsOf, Subject } from "./support.ts";

const program = join(import.meta.dirname, "../../cloudvmi");

suite("supplied types", { concurrency: 1 }, () => {
  let folder: string;
  let image: string;
  let types: Uint8Array;
  let isf: Uint8Array;
  /** The same, with symbols. */
  let whole: Uint8Array;
  let symbols: IsfSymbol[];
  let expected: Row[];
  let buildId: string;
  /** What makes of the image's kernel one without CONFIG_KALLSYMS_ALL, and one without CONFIG_KALLSYMS. */
  let functionsOnly: Patch[];
  let noSymbols: Patch[];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "cloudvmi-types-"));
    image = join(folder, "image.raw");
    await using subject = await Subject.boot({ kernel: "6.12", ram: "file", name: "supplied-types" });
    const entry = (await subject.lab.readFiles(["/sys/kernel/btf/vmlinux"])).get("/sys/kernel/btf/vmlinux");
    assert.equal(entry?.kind, "file");
    types = entry.data;
    isf = gzipSync(isfOf(new Btf(types)));
    await subject.pause();
    const guest = await subject.attach();
    buildId = guest.kernel.buildId;
    expected = read(guest, "processes");
    symbols = linkedSymbols(guest);
    whole = gzipSync(isfOf(new Btf(types), symbols));
    const [symbol] = guest.symbols(["__start_BTF"]);
    copyFileSync(subject.lab.ramFile!, image);
    [functionsOnly, noSymbols] = hidden(subject.memory, guest);
    overwrite(image, [{ gpa: imageGpa(symbol!.address, guest.kernel.physBase), bytes: Buffer.alloc(24) }]);
    writeFileSync(join(folder, "types.btf"), types);
    writeFileSync(join(folder, "types.json.gz"), isf);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("without them it is said what is missing, with them everything is as it was", () => {
    using opened = openImage(image);
    using memory = openMemory(opened.layout);
    assert.throws(
      () => attach(memory, { image: true }),
      (error) => error instanceof FileMissing && error.buildId === buildId && error.message.includes(buildId),
    );
    for (const supplied of [types, isf]) {
      const guest = attach(memory, { image: true, types: supplied });
      assert.deepEqual(rowsOf(guest.table("processes")), expected);
      const idle = guest.typeAt("task_struct", guest.symbols(["init_task"])[0]!.address);
      assert.equal(idle.members.find(({ path }) => path === "comm")?.value, '"swapper/0"');
    }
  });

  test("an ISF says of structures what BTF says", () => {
    using opened = openImage(image);
    using memory = openMemory(opened.layout);
    const [fromBtf, fromIsf] = [types, isf].map((supplied) => attach(memory, { image: true, types: supplied }));
    for (const name of ["task_struct", "mm_struct", "tcp_sock", "sk_buff", "module", "list_head"]) {
      const layouts = [fromBtf!, fromIsf!].map((guest) => {
        const { size, members } = guest.type(name);
        const named = members.filter(({ path }) => path !== "");
        return {
          size,
          places: new Map(named.map(({ path, offset, bitOffset, bitSize }) => [path, [offset, bitOffset, bitSize]])),
        };
      });
      assert.deepEqual(layouts[1], layouts[0], name);
    }
  });

  test("on the command line", async () => {
    const ps = (...args: string[]) =>
      promisify(execFile)(program, ["local", "ps", "--memory", image, "--columns", "pid,name", "--json", ...args]);
    for (const file of ["types.btf", "types.json.gz"]) {
      const { stdout } = await ps("--types", join(folder, file));
      assert.equal(JSON.parse(stdout).length, expected.length);
    }
    const failed = async (...args: string[]) => {
      const error: { code?: unknown; stderr?: unknown } = await ps(...args).then(
        () => ({}),
        (reason) => reason,
      );
      return [error.code, String(error.stderr)] as const;
    };
    assert.deepEqual((await failed())[0], 4);
    assert.match((await failed())[1], /^cloudvmi: [^\n]*supply the BTF or ISF file of this very build/);
    const [code, text] = await failed("--types", join(folder, "none"));
    assert.equal(code, 3);
    assert.match(text, /^cloudvmi: [^\n]*none: there is no such file that you may read/);
    const whole = readFileSync(join(folder, "types.btf"));
    const damaged: [string, Uint8Array][] = [
      ["cut.btf", whole.subarray(0, -1)],
      ["empty.btf", new Uint8Array(0)],
    ];
    for (const [name, bytes] of damaged) {
      writeFileSync(join(folder, name), bytes);
      const [damage, said] = await failed("--types", join(folder, name));
      assert.equal(damage, 2);
      assert.match(said, new RegExp(`^cloudvmi: the types that were supplied \\([^)]*${name}\\) are damaged`));
    }
    assert.match((await failed("--types", image))[1], /^cloudvmi: [^\n]*(?:larger than|neither BTF nor ISF)/);
  });

  /** One look-up by an agent that has a folder of files. */
  async function askAgent(types: string | undefined): Promise<void> {
    const inspection = createInspection({
      vm: { uuid: "image", incarnation: "1" },
      sandbox: await probeSandbox(inspectorProgram(), []),
      program: inspectorProgram(),
      profiles: noProfileStore(),
      types: typeFiles(undefined, types),
      registers: async () => [],
      openRam: async () => openImage(image),
      log: () => {},
    });
    try {
      const request = new Encoded(toBinary(LookupSymbolsRequestSchema, create(LookupSymbolsRequestSchema, {})));
      const call = { signal: AbortSignal.timeout(30_000), budgetMs: 20_000 };
      await inspection.unary(GuestService.method.lookupSymbols, request, call);
    } finally {
      inspection.close();
    }
  }

  test("an agent finds them by the build id", async () => {
    await assert.rejects(askAgent(undefined), /supply the BTF or ISF file/);
    await assert.rejects(askAgent(folder), /supply the BTF or ISF file/);
    writeFileSync(join(folder, `${buildId}.json.gz`), isf);
    await askAgent(folder);
    writeFileSync(join(folder, `${buildId}.btf`), types);
    await askAgent(folder);
  });

  const lacking = [
    { what: "the names of data", missing: /CONFIG_KALLSYMS_ALL is needed/, patches: () => functionsOnly },
    { what: "a symbol table", missing: /CONFIG_KALLSYMS is needed/, patches: () => noSymbols },
  ];
  for (const { what, missing, patches } of lacking) {
    test(`a kernel without ${what} is read with an ISF that has symbols`, async (t) => {
      overwrite(image, patches());
      using opened = openImage(image);
      using memory = openMemory(opened.layout);
      for (const supplied of [undefined, types, isf]) {
        assert.throws(
          () => attach(memory, { image: true, ...(supplied ? { types: supplied } : {}) }),
          (error) => error instanceof FileMissing && error.lacking === "symbols" && missing.test(error.message),
        );
      }
      const start = performance.now();
      const guest = attach(memory, { image: true, types: whole });
      t.diagnostic(`attached in ${(performance.now() - start).toFixed(0)} ms`);
      assert.deepEqual(rowsOf(guest.table("processes")), expected);
      const names = symbols.slice(0, 4000).map(({ name }) => name);
      const slide = BigInt(guest.kernel.kaslrOffset);
      const found = guest.symbols(names).map((symbol) => symbol?.address);
      const moved = symbols
        .slice(0, 4000)
        .map(({ address }) => (address < START_KERNEL_MAP ? address : address + slide));
      assert.deepEqual(found, moved);
      assert.equal(attach(memory, { image: true, types: whole, profiles: [guest.profile] }).profileWasCached, true);

      writeFileSync(join(folder, `${buildId}.json.gz`), isf);
      await assert.rejects(askAgent(folder), missing);
      // The BTF file of this build is there too, and would not do.
      writeFileSync(join(folder, `${buildId}.json.gz`), whole);
      await askAgent(folder);
    });
  }

  test("an ISF with the symbols of another build is refused", () => {
    using opened = openImage(image);
    using memory = openMemory(opened.layout);
    const shifted = symbols.map((each) =>
      each.name === "init_uts_ns" ? { ...each, address: each.address + 64n } : each,
    );
    const other = isfOf(new Btf(types), shifted);
    assert.throws(() => attach(memory, { image: true, types: other }), {
      message: /do not fit Linux .* this very build$/,
    });
  });
});

interface Patch {
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

function overwrite(image: string, patches: readonly Patch[]): void {
  const file = openSync(image, "r+");
  for (const { gpa, bytes } of patches) writeSync(file, bytes, 0, bytes.length, gpa);
  closeSync(file);
}

/** Those of the kernel itself, the first of each name, as the linker left them. */
function linkedSymbols(guest: Guest): IsfSymbol[] {
  const slide = BigInt(guest.kernel.kaslrOffset);
  const found = new Map<string, IsfSymbol>();
  for (const { name, address } of guest.kernel.kallsyms) {
    if (found.has(name)) continue;
    const linked = address < START_KERNEL_MAP ? address : address - slide;
    const [banner] = name === "linux_banner" ? guest.read([{ space: "kernel", address, length: 256 }]) : [];
    const data = banner?.bytes.subarray(0, banner.bytes.indexOf(0) + 1);
    found.set(name, { name, address: linked, ...(data ? { data } : {}) });
  }
  return [...found.values()];
}

/** Changes to a kernel's memory: its data without names; no token table, and no word of the tables in VMCOREINFO. */
function hidden(memory: PhysicalMemory, { kernel }: Guest): [Patch[], Patch[]] {
  const notes: Vmcoreinfo[] = [];
  findVmcoreinfo(memory, (note) => {
    if (note.fields.get("BUILD-ID") === kernel.buildId) notes.push(note);
    return false;
  });
  const gpaOf = (name: string) => imageGpa(symbolField(notes[0]!, name)!, kernel.physBase);
  const [start, end] = [gpaOf("kallsyms_names"), gpaOf("kallsyms_token_table")];
  const names = memory.copy(start, end - start)!;
  for (let index = 0, position = 0; index < kernel.kallsyms.count; index++) {
    const symbol = kernel.kallsyms.at({ index, position })!;
    const header = entryHeader(names, position, 0x80);
    position = header.start + header.length;
    if (!/[tw]/i.test(symbol.type)) names.fill("x".charCodeAt(0), header.start, position);
  }
  const untold = notes.map(({ gpa }) => {
    const page = Buffer.from(memory.copy(gpa, 4096)!).toString("latin1");
    return { gpa, bytes: Buffer.from(page.replaceAll("(kallsyms_", "(xallsyms_"), "latin1") };
  });
  const tokens = { gpa: end, bytes: Buffer.alloc(gpaOf("kallsyms_token_index") - end) };
  return [[{ gpa: start, bytes: names }], [tokens, ...untold]];
}
