// Matches of a scan, for people and for programs.
import { bytesToText, type ScanMatch, type ScanPlace, type ScanSummary } from "../../sdk/index.ts";
import type { JsonRow } from "../print.ts";
import { hexdump } from "./hexdump.ts";
import { sanitise, sanitiseValue } from "./sanitise.ts";
import { count, formatAddress, formatBytes } from "./units.ts";

/** A match as `--json` has it. */
export function rowOf(match: ScanMatch): JsonRow {
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

/** A match for people: what and where, and what lies there. */
export function linesOf(match: ScanMatch): string[] {
  const from = BigInt.asUintN(64, match.address - BigInt(match.contextBefore));
  const dump = [...hexdump(match.context, from)].map((line) => `  ${line}`);
  return [headOf(match), ...dump, ""];
}

export function placeText(place: ScanPlace | undefined): string {
  const { case: kind, value } = place?.place ?? { case: undefined };
  switch (kind) {
    case "process": {
      const mapping = sanitiseValue(bytesToText(value.mapping)) || "anonymous memory";
      const range = `${formatAddress(value.start)}-${formatAddress(value.end)}`;
      return `pid ${value.pid} ${sanitiseValue(bytesToText(value.name))}, ${mapping} ${range} ${value.permissions}`;
    }
    case "kernel": {
      const where = value.module === "" ? areas[value.area] : `module ${sanitise(value.module)}`;
      return value.symbol === "" ? `${where ?? value.area}` : `${where ?? value.area}, ${sanitise(value.symbol)}`;
    }
    case "file": {
      const path = sanitiseValue(bytesToText(value.path)) || "a file without a name";
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
export function* closing(
  summary: ScanSummary,
  { limit = 1000, timeout = 60_000 }: { limit?: number; timeout?: number },
): Generator<string> {
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
