// A scan finds what is put into a guest, where it was put: through the inspector's sandbox, as `cloudvmi local scan` does.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type LocalGuest, openLocal } from "../../agent/index.ts";
import { bootGuest, type GuestSpec, type LabGuest } from "../../lab/index.ts";
import { VmIdSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanEnd } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import {
  bytesToText,
  type GuestHandle,
  guestOver,
  type ScanMatch,
  type ScanQuery,
  type ScanSummary,
} from "../../sdk/index.ts";
import { eventually } from "../service/support.ts";

const texts = { heap: "needle over the border", memfd: "needle in a memfd", deleted: "needle without a name" };
const source = (text: string) => `rule found : lab { meta: level = 3 strings: $a = "${text}" condition: $a }`;
const rules = (text: string) => [{ name: "needle.yar", source: source(text) }];
const hidden = (text: string) => Buffer.from(Buffer.from(text).map((byte) => byte ^ 0x55)).toString("hex");

/** Takes about as many times 70 ms for a piece of 4 MiB. */
const slow = (times: number) => {
  const condition = `for any i in (1..${times}) : (for any j in (0..filesize) : (uint8(j) == 255 + i))`;
  return [{ name: "slow", source: `rule slow { condition: ${condition} }` }];
};

async function scan(guest: GuestHandle, query: ScanQuery): Promise<{ matches: ScanMatch[]; summary: ScanSummary }> {
  const matches: ScanMatch[] = [];
  let summary: ScanSummary | undefined;
  for await (const update of guest.scan({ timeLimitMs: 30_000, ...query })) {
    matches.push(...update.matches);
    summary = update.summary ?? summary;
  }
  return { matches, summary: summary! };
}

async function refusal(guest: GuestHandle, query: ScanQuery): Promise<ConnectError> {
  const error = await scan(guest, query).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, "it must fail");
  return error;
}

const specs: Record<string, GuestSpec> = {
  "Linux 6.12, shared RAM": { kernel: "6.12", workload: "quiet" },
  "Linux 6.1, private RAM": { kernel: "6.1", ram: "anonymous", workload: "quiet" },
};

for (const [title, spec] of Object.entries(specs)) {
  suite(title, () => {
    let lab: LabGuest;
    let local: LocalGuest;
    let guest: GuestHandle;
    let pid: number;
    let address: bigint;

    before(async () => {
      lab = await bootGuest(spec);
      const program = readFileSync(join(import.meta.dirname, "scan.py")).toString("base64");
      const words = [texts.heap, texts.memfd, texts.deleted].map(hidden).join(" ");
      await lab.exec(
        `echo ${program} | base64 -d > /tmp/scan.py; setsid python3 /tmp/scan.py ${words} > /dev/null 2>&1 &`,
      );
      const [id = "", at = ""] = await eventually(20, async () => {
        const told = (await lab.exec("cat /tmp/scan-ready 2>/dev/null || true")).split(" ");
        assert.equal(told.length, 2);
        return told;
      });
      pid = Number(id);
      address = BigInt(at);
      local = await openLocal({ qmp: lab.qmp });
      guest = guestOver(local.transport, create(VmIdSchema, local.vm));
    });
    after(async () => {
      await local?.close();
      await lab?.close();
    });

    test("in a process: over the border of two pages, once, with its mapping and what lies around it", async () => {
      const { matches, summary } = await scan(guest, { rules: rules(texts.heap) });
      assert.equal(matches.length, 1, JSON.stringify(matches.map(({ place }) => place?.place.case)));
      const [match] = matches as [ScanMatch];
      const { rule, namespace, tags, meta, pattern, length, context, contextBefore } = match;
      assert.deepEqual([rule, namespace, tags, pattern, length], ["found", "needle.yar", ["lab"], "$a", 22n]);
      assert.deepEqual(
        meta.map(({ name, value }) => [name, value]),
        [["level", "3"]],
      );
      assert.equal(match.address, address);
      assert.equal(address % 4096n, 4091n);
      assert.equal(contextBefore, 16);
      assert.equal(Buffer.from(context.subarray(16, 38)).toString(), texts.heap);
      assert.equal(context.length, 48);
      assert.ok(match.place?.place.case === "process");
      const place = match.place.place.value;
      assert.equal(place.pid, pid);
      assert.match(bytesToText(place.name), /^python3/);
      assert.equal(bytesToText(place.mapping), "[heap]");
      assert.ok(place.start <= address && address < place.end);
      assert.equal(place.permissions, "rw-p");
      assert.equal(summary.end, ScanEnd.COMPLETE);
      assert.equal(summary.matches, 1n);
      assert.ok(summary.bytes > 1n << 20n);
      assert.equal((await scan(guest, { rules: rules(texts.heap), pids: [pid] })).matches.length, 1);
      assert.equal((await scan(guest, { rules: rules(texts.heap), pids: [1] })).matches.length, 0);
    });

    test("in the page cache: a memfd, and a file that has been deleted", async () => {
      for (const [text, path, offset] of [
        [texts.memfd, /^\/memfd:scanned/, 4096n + 7n],
        [texts.deleted, /^\/tmp\/scan-gone|scan-gone/, 100n],
      ] as const) {
        const { matches } = await scan(guest, { rules: rules(text), target: "page-cache" });
        assert.equal(matches.length, 1, text);
        const [match] = matches as [ScanMatch];
        assert.equal(match.address, offset);
        assert.ok(match.place?.place.case === "file");
        const { value } = match.place.place;
        assert.match(bytesToText(value.path), path);
        assert.equal(value.deleted, true);
        assert.ok(value.inode > 0n);
      }
    });

    test("in the kernel: its banner, by its symbol; an object of a slab", async () => {
      const banner = String(await lab.exec("cat /proc/version")).slice(0, 40);
      const { matches, summary } = await scan(guest, { rules: rules(banner), target: "kernel" });
      const places = matches.map(({ place }) => (place?.place.case === "kernel" ? place.place.value : undefined));
      assert.ok(
        places.some((place) => place?.area === "image" && place.symbol === "linux_banner"),
        JSON.stringify(places),
      );
      assert.equal(summary.end, ScanEnd.COMPLETE);
      // A name as long as this has a place of its own in a slab.
      const name = "a-name-that-is-too-long-for-the-dentry-itself-7f3a";
      await lab.exec(`touch /tmp/${name}; ls /tmp > /dev/null`);
      const found = await scan(guest, { rules: rules(name), target: "kernel" });
      const areas = found.matches.map(({ place }) => place?.place.case === "kernel" && place.place.value.area);
      assert.ok(areas.includes("slab"), String(areas));
    });

    test("in RAM: whatever it is of", async () => {
      for (const text of [texts.memfd, texts.deleted]) {
        const { matches, summary } = await scan(guest, { rules: rules(text), target: "physical" });
        assert.ok(matches.length > 0, text);
        assert.ok(matches.every(({ place }) => place?.place.case === "physical"));
        const [read] = await guest.readBatch([
          { space: "physical", address: matches[0]!.address, length: text.length },
        ]);
        assert.equal(Buffer.from(read!.data).toString(), text);
        assert.equal(summary.end, ScanEnd.COMPLETE);
      }
    });

    // Of rules and limits nothing depends on the guest.
    const once = { skip: spec.ram === "anonymous" };

    test("limits: of matches, bytes and time, each told with where it stopped", once, async () => {
      const often = [{ name: "often", source: 'rule often { strings: $a = "e" condition: $a }' }];
      const few = await scan(guest, { rules: often, limit: 7 });
      assert.deepEqual([few.matches.length, few.summary.end], [7, ScanEnd.MATCHES]);
      assert.ok(few.summary.place !== undefined);
      const short = await scan(guest, { rules: rules(texts.heap), target: "physical", maxBytes: 1 << 20 });
      assert.deepEqual([short.summary.end, short.summary.bytes], [ScanEnd.BYTES, 1n << 20n]);
      const begun = performance.now();
      const late = await scan(guest, { rules: slow(5), target: "physical", timeLimitMs: 1000 });
      assert.equal(late.summary.end, ScanEnd.TIME);
      assert.ok(performance.now() - begun < 8000);
    });

    test("rules whose matches are gigabytes end their own scan at most", once, async () => {
      const patterns = Array.from({ length: 26 }, (_, i) => String.fromCharCode(97 + i)).map(
        (a) => `$${a} = /${a}.*z/s`,
      );
      const long = [{ name: "long", source: `rule long { strings: ${patterns.join(" ")} condition: any of them }` }];
      // How much of them the engine keeps is its own affair: a scan that needs too much is refused.
      const query: ScanQuery = { rules: long, target: "physical", maxBytes: 64 << 20 };
      const error = await scan(guest, query).then(
        () => undefined,
        (reason: unknown) => ConnectError.from(reason),
      );
      if (error !== undefined) {
        assert.equal(error.code, Code.DataLoss);
        assert.match(error.rawMessage, /^the (?:matches need more memory|scan used more)/);
      }
      assert.equal((await scan(guest, { rules: rules(texts.heap), pids: [pid] })).matches.length, 1);
    });

    test("rules that are wrong are refused with their place, and nothing is scanned", once, async () => {
      const wrong = (text: string) => refusal(guest, { rules: [...rules("fine"), { name: "b.yar", source: text }] });
      for (const [text, message] of [
        ["rule a {\n  condition: nothing\n}", /^b\.yar:2:14: unknown identifier `nothing`/],
        ['rule a { strings: $a = "x" condition: }', /^b\.yar:1:\d+: syntax error/],
        ['include "/etc/passwd"\nrule a { condition: true }', /^b\.yar:1:1: include statements not allowed/],
        ['import "vt"\nrule a { condition: true }', /^b\.yar:1:1: module `vt` is not available/],
      ] as const) {
        const error = await wrong(text);
        assert.equal(error.code, Code.InvalidArgument);
        assert.match(error.rawMessage, message);
      }
      assert.equal((await refusal(guest, { rules: [] })).code, Code.InvalidArgument);
      assert.equal((await refusal(guest, { rules: rules("x"), pids: [999_999] })).code, Code.NotFound);
    });

    test("a scan that its caller leaves makes room for the next", once, async () => {
      for await (const _ of guest.scan({ rules: slow(100) })) break;
      assert.equal((await scan(guest, { rules: rules(texts.heap), pids: [pid] })).matches.length, 1);
    });
  });
}
