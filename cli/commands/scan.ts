import { type Command, Option } from "commander";
import { bytesToText, type ScanMatch, type ScanPlace, type ScanSummary, type ScanTargetName } from "../../sdk/index.ts";
import { usageError } from "../failure.ts";
import { hexdump } from "../format/hexdump.ts";
import { sanitise } from "../format/sanitise.ts";
import { count, formatAddress, formatBytes } from "../format/units.ts";
import type { GuestSource } from "../guests.ts";
import type { Io } from "../io.ts";
import { parseDuration, parseLength, parseMatches, parsePids } from "../parse.ts";
import type { JsonRow } from "../print.ts";
import { startProgress } from "../progress.ts";
import { readRules } from "../rule-files.ts";
import type { CommonOptions } from "../session.ts";
import { groups } from "./command.ts";
import { addOneGuestCommand, type OneGuestCommand } from "./guest-command.ts";

export function addScanCommand(parent: Command, io: Io, source: GuestSource): void {
  addOneGuestCommand(parent, io, source, scanCommand);
}

interface ScanOptions extends CommonOptions {
  rules: string;
  processes?: boolean;
  kernel?: boolean;
  pageCache?: boolean;
  physical?: boolean;
  process?: number[];
  pid?: number | number[];
  limit?: number;
  maxBytes?: bigint;
  timeout?: number;
}

const scanCommand: OneGuestCommand<[], ScanOptions> = {
  name: "scan",
  summary: "Look through memory with YARA rules.",
  description:
    "What is looked through (one of them; --processes unless you say):\n" +
    "  --processes   what is in memory of processes: heaps, stacks, programs, libraries, shared memory. A page that\n" +
    "                several share is looked at once, and told with the first process that has it.\n" +
    "  --kernel      the kernel's image and modules (text and data), vmalloc memory (buffers, stacks, BPF programs) and\n" +
    "                slabs (the kernel's objects, free ones too)\n" +
    "  --page-cache  files as far as they are in memory, deleted ones and memfds too\n" +
    "  --physical    all of RAM by physical address: what has been freed as well, without an owner\n" +
    "The guest runs on. What is paged out, or only on its disks, can't be seen.\n\n" +
    "A rule sees up to 4 MiB at a time that lie side by side: #a, filesize, offsets and `all of them` speak of that. A\n" +
    "match may go over page borders; what is longer than 64 KiB can be missed where two such pieces meet.\n" +
    "Of a folder every *.yar and *.yara file is read, each its own namespace. There is no include, and no module that\n" +
    "needs data from elsewhere (cuckoo, vt). Rules that are wrong are refused with file, line and column (exit code 2).\n\n" +
    "The scan stops at --limit, --max-bytes or --timeout, whichever is first, and says so. A match is no failure: the exit\n" +
    "code is 0 with matches and without.",
  examples: [
    "scan VM --rules webshells.yar",
    "scan VM --rules rules/ --page-cache --json",
    "scan VM --rules implant.yar --process 812 --process 813",
    "scan VM --rules keys.yar --physical --timeout 10m --limit 20",
  ],
  group: groups.inside,
  configure(command, kind) {
    const target = (flag: string, what: string, others: readonly string[]) =>
      new Option(flag, what).conflicts([...others]);
    command
      .requiredOption("--rules <file>", "file of YARA rules, or a folder of them")
      .addOption(target("--processes", "the memory of processes (the default)", ["kernel", "pageCache", "physical"]))
      .addOption(target("--kernel", "the kernel's own memory", ["pageCache", "physical"]))
      .addOption(target("--page-cache", "files as far as they are in memory", ["physical"]))
      .option("--physical", "all of RAM")
      .option("--process <pid>", "of processes only this one; may be given several times", parsePids)
      .option("--limit <matches>", "stop after so many matches (default: 1000)", parseMatches)
      .option("--max-bytes <bytes>", "stop after so many bytes: 64M, 2G", parseLength)
      .option("--timeout <time>", "stop after so long: 90s, 10m, up to 1h (default: 60s)", parseDuration);
    // In local mode --pid is QEMU's.
    if (kind === "service") command.option("--pid <pid>", "the same as --process", parsePids);
  },
  async run({ io, printer, resources }, guest, options) {
    const pids = [...(options.process ?? []), ...(Array.isArray(options.pid) ? options.pid : [])];
    const target = targetOf(options);
    if (pids.length > 0 && target !== "processes") throw usageError("--process goes with --processes only");
    const rules = await readRules(options.rules);
    const rows: JsonRow[] = [];
    let summary: ScanSummary | undefined;
    const progress = resources.use(startProgress(io, "compiling the rules …"));
    const query = {
      rules,
      target,
      pids,
      limit: options.limit,
      maxBytes: options.maxBytes === undefined ? undefined : Number(options.maxBytes),
      timeLimitMs: options.timeout,
      signal: io.signal,
    };
    for await (const update of guest.scan(query)) {
      for (const match of update.matches) {
        if (printer.json) rows.push(rowOf(match));
        else {
          progress.hide();
          await printer.lines([headOf(match), ...hexdumpOf(match), ""]);
        }
      }
      if (update.progress !== undefined) {
        const { bytes, matches, place } = update.progress;
        const where = place === undefined ? "" : `, at ${placeText(place)}`;
        progress.update(`scanned ${formatBytes(bytes)}, ${count(Number(matches), "match", "matches")}${where} …`);
      }
      summary ??= update.summary;
    }
    progress[Symbol.dispose]();
    if (printer.json) await printer.list(rows, []);
    for (const line of closing(summary!, options)) await printer.note(line);
  },
};

function targetOf({ kernel, pageCache, physical }: ScanOptions): ScanTargetName {
  return physical ? "physical" : pageCache ? "page-cache" : kernel ? "kernel" : "processes";
}

function rowOf(match: ScanMatch): JsonRow {
  return {
    rule: match.rule,
    namespace: match.namespace,
    tags: match.tags.join(","),
    meta: JSON.stringify(Object.fromEntries(match.meta.map(({ name, value }) => [name, value]))),
    pattern: match.pattern || null,
    ...placeColumns(match.place),
    address: formatAddress(match.address),
    length: match.length,
    before: hex(match.context.subarray(0, match.contextBefore)),
    data: hex(match.context.subarray(match.contextBefore)),
  };
}

/** The same columns whatever is scanned, so that rows of several scans fit together. */
function placeColumns(place: ScanPlace | undefined): JsonRow {
  const { case: kind, value } = place?.place ?? { case: undefined };
  const of: Record<string, JsonRow> = {
    process: kind === "process" ? { pid: value.pid, name: bytesToText(value.name) } : {},
    kernel: kind === "kernel" ? { area: value.area, module: value.module || null, symbol: value.symbol || null } : {},
  };
  const path = kind === "process" ? bytesToText(value.mapping) : kind === "file" ? bytesToText(value.path) : "";
  return {
    place: kind ?? null,
    pid: null,
    name: null,
    ...of.process,
    mapping_start: kind === "process" ? formatAddress(value.start) : null,
    mapping_end: kind === "process" ? formatAddress(value.end) : null,
    permissions: kind === "process" ? value.permissions : null,
    path: path || null,
    inode: kind === "file" ? value.inode : null,
    device: kind === "file" ? value.device || null : null,
    deleted: kind === "file" ? value.deleted : null,
    area: null,
    module: null,
    symbol: null,
    ...of.kernel,
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** "shell.yar:webshell $a: pid 812 php-fpm, [heap] 0x…-0x… rw-p, 24 bytes at 0x…" */
function headOf(match: ScanMatch): string {
  const tags = match.tags.length === 0 ? "" : ` [${match.tags.join(" ")}]`;
  const pattern = match.pattern === "" ? "" : ` ${match.pattern}`;
  const rule = match.namespace === "" ? match.rule : `${match.namespace}:${match.rule}`;
  const at = `${count(Number(match.length), "byte")} at ${formatAddress(match.address)}`;
  return sanitise(`${rule}${tags}${pattern}: ${placeText(match.place)}, ${at}`);
}

function hexdumpOf(match: ScanMatch): string[] {
  const from = BigInt.asUintN(64, match.address - BigInt(match.contextBefore));
  return [...hexdump(match.context, from)].map((line) => `  ${line}`);
}

function placeText(place: ScanPlace | undefined): string {
  const { case: kind, value } = place?.place ?? { case: undefined };
  switch (kind) {
    case "process": {
      const mapping = sanitise(bytesToText(value.mapping)) || "anonymous memory";
      const range = `${formatAddress(value.start)}-${formatAddress(value.end)}`;
      return `pid ${value.pid} ${sanitise(bytesToText(value.name))}, ${mapping} ${range} ${value.permissions}`;
    }
    case "kernel": {
      const where = value.module === "" ? areas[value.area] : `module ${sanitise(value.module)}`;
      return value.symbol === "" ? `${where ?? value.area}` : `${where ?? value.area}, ${sanitise(value.symbol)}`;
    }
    case "file": {
      const path = sanitise(bytesToText(value.path)) || "a file without a name";
      return `${path}${value.deleted ? " (deleted)" : ""}, inode ${value.inode} on ${value.device}`;
    }
    default:
      return "physical memory";
  }
}

const areas: Readonly<Record<string, string>> = {
  image: "the kernel's image",
  vmalloc: "vmalloc memory",
  slab: "the kernel's slabs",
  other: "kernel memory beside its image and modules",
};

/** What people and logs should know of how it ended. */
function* closing(summary: ScanSummary, { limit = 1000, timeout = 60_000 }: ScanOptions): Generator<string> {
  const seconds = (Number(summary.microseconds) / 1e6).toFixed(1);
  const found = count(Number(summary.matches), "match", "matches");
  yield `scanned ${formatBytes(summary.bytes)} in ${seconds} s: ${found}`;
  const why = [
    undefined,
    undefined,
    `after ${count(limit, "match", "matches")}: --limit allows more`,
    "after --max-bytes",
    `after ${timeout / 1000} s: --timeout allows more`,
  ][summary.end];
  if (why !== undefined) {
    const where = summary.place === undefined ? "" : `, at ${placeText(summary.place)}`;
    yield `stopped before the end ${why}${where}`;
  }
  for (const line of summary.notes) yield sanitise(line);
}
