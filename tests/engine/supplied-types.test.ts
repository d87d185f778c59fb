// A kernel whose own types can't be used, read with types that are supplied: an image of a real guest with its BTF damaged.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
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
import { openImage } from "../../vmi/driver/image/index.ts";
import { attach, FileMissing, openMemory } from "../../vmi/index.ts";
import { Btf } from "../../vmi/symbols/btf.ts";
import { isfOf } from "../../vmi/testing/isf-writer.ts";
import { Encoded } from "../../wire/index.ts";
import { type Row, read, rowsOf, Subject } from "./support.ts";

const program = join(import.meta.dirname, "../../cloudvmi");

suite("supplied types", { concurrency: 1 }, () => {
  let folder: string;
  let image: string;
  let types: Uint8Array;
  let isf: Uint8Array;
  let expected: Row[];
  let buildId: string;

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
    const [symbol] = guest.symbols(["__start_BTF"]);
    const [place] = guest.translate([{ space: "kernel", address: symbol!.address }]);
    assert.ok(place?.mapped);
    copyFileSync(subject.lab.ramFile!, image);
    const file = openSync(image, "r+");
    writeSync(file, Buffer.alloc(24), 0, 24, place.gpa);
    closeSync(file);
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
    assert.match((await failed("--types", join(folder, "none")))[1], /^cloudvmi: [^\n]*can't be read/);
    assert.match((await failed("--types", image))[1], /^cloudvmi: [^\n]*(?:larger than|neither BTF nor ISF)/);
  });

  test("an agent finds them by the build id", async () => {
    const sandbox = await probeSandbox(inspectorProgram(), []);
    const symbols = async (types: string | undefined) => {
      const inspection = createInspection({
        vm: { uuid: "image", incarnation: "1" },
        sandbox,
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
    };
    await assert.rejects(symbols(undefined), /supply the BTF or ISF file/);
    await assert.rejects(symbols(folder), /supply the BTF or ISF file/);
    writeFileSync(join(folder, `${buildId}.json.gz`), isf);
    await symbols(folder);
    writeFileSync(join(folder, `${buildId}.btf`), types);
    await symbols(folder);
  });
});
