import { type Command, Option } from "commander";
import type { ScanSummary, ScanTargetName } from "../../sdk/index.ts";
import { usageError } from "../failure.ts";
import { count, formatBytes } from "../format/units.ts";
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
    "One of these is looked through:\n" +
    "  --processes   what is in memory of processes (the default): heaps, stacks, programs, libraries. A\n" +
    "                page that several share is looked at once, and told with the first that has it.\n" +
    "  --kernel      the kernel's image and modules, text and data; vmalloc memory (buffers, stacks, BPF\n" +
    "                programs); slabs (the kernel's objects, free ones too)\n" +
    "  --page-cache  files as far as they are in memory, deleted ones and memfds too\n" +
    "  --physical    all of RAM by physical address: also what has been freed, without an owner\n" +
    "The guest runs on. What is paged out, or only on its disks, can't be seen.\n\n" +
    "A rule sees up to 4 MiB that lie side by side: #a, filesize, offsets and `all of them` speak of that.\n" +
    "A match may go over page borders; one of over 64 KiB can be missed where two such pieces meet.\n\n" +
    "Of a folder every *.yar and *.yara file is read, each its own namespace. There is no include, and no\n" +
    "module that needs data from elsewhere (cuckoo, vt). Rules that are wrong are refused with file, line\n" +
    "and column, exit code 2.\n\n" +
    "The scan stops at --limit, --max-bytes or --timeout, whichever is first, and says where. The exit code\n" +
    "is 0 with matches and without.",
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
    // With it the client comes, which only commands that talk to a guest pay for.
    const { closing, linesOf, placeText, rowOf } = await import("../format/scan.ts");
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
          await printer.lines(linesOf(match));
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
