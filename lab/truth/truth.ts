import type { Entry } from "./archive.ts";
import { textOf } from "./bytes.ts";
import { parseIomem, parseModules, type TruthModule, type TruthRange } from "./kernel.ts";

/** What /proc/PID/stat says (proc(5)); times in clock ticks (1/100 s), sizes in bytes unless said. */
export interface Stat {
  pid: number;
  /** Raw name with its bytes as in `textOf`. */
  comm: string;
  state: string;
  ppid: number;
  pgrp: number;
  session: number;
  ttyNr: number;
  flags: number;
  utime: number;
  stime: number;
  priority: number;
  nice: number;
  numThreads: number;
  /** Ticks after the guest booted. */
  starttime: number;
  vsize: number;
  /** Pages. */
  rss: number;
}

/** A thread that is not its process's first. */
export interface TruthThread {
  tid: number;
  stat: Stat;
}

/** A process as its guest sees it. Text is as in `textOf`: nothing of the bytes is lost. */
export interface TruthProcess {
  pid: number;
  /**
   * Folder of /proc that tells what its threads share: /proc/PID. Where its first thread has ended before others, that
   * has nothing of it any more, and it is /proc/PID/task/TID of the next.
   */
  folder: string;
  /** All its threads have, and nobody has waited for it yet. */
  ended: boolean;
  comm: string;
  /** /proc/PID/stat; its sizes are those of `folder`. */
  stat: Stat;
  /** /proc/PID/status by key, values without the white space around; what memory it has is that of `folder`. */
  status: Map<string, string>;
  /** Real, effective, saved and filesystem ids. */
  uids: number[];
  gids: number[];
  /** Raw /proc/PID/cmdline: arguments that end in NUL each. */
  cmdline: Buffer;
  argv: string[];
  /** Raw /proc/PID/environ. */
  environ: Buffer;
  env: string[];
  /** Targets of the links; null where there is none (kernel threads, zombies). */
  exe: string | null;
  cwd: string | null;
  root: string | null;
  /** Namespace link targets by name, such as pid → "pid:[4026531836]". */
  namespaces: Map<string, string>;
  /** Path in the unified cgroup hierarchy, null when unknown. */
  cgroup: string | null;
  /** Open files: descriptor → link target. */
  files: Map<number, string>;
  /** Every thread, the first among them. */
  threads: TruthThread[];
  kernelThread: boolean;
}

/** What a guest says of itself. */
export interface Truth {
  /** By pid; processes that ended while being read are left out. */
  processes: Map<number, TruthProcess>;
  modules: TruthModule[];
  iomem: TruthRange[];
  /** Kernel command line. */
  cmdline: string;
  /** /proc/version without its line end. */
  version: string;
  /** As `uname -r` says it. */
  release: string;
  bootId: string;
  /** Seconds. */
  uptime: number;
  /** Seconds since 1970. */
  bootTime: number;
  memTotalKiB: number;
}

/** Parses what the guest collected. */
export function parseTruth(entries: Map<string, Entry>): Truth {
  const text = (path: string) => {
    const entry = entries.get(path);
    if (entry?.kind !== "file") throw new Error(`the guest could not read its ${path}`);
    return textOf(entry.data);
  };
  const version = text("/proc/version").trimEnd();
  return {
    processes: parseProcesses(entries),
    modules: parseModules(text("/proc/modules")),
    iomem: parseIomem(text("/proc/iomem")),
    cmdline: text("/proc/cmdline").trimEnd(),
    version,
    release: version.split(" ")[2] ?? "",
    bootId: text("/proc/sys/kernel/random/boot_id").trim(),
    uptime: Number(text("/proc/uptime").split(" ")[0]),
    bootTime: Number(/^btime (\d+)$/m.exec(text("/proc/stat"))?.[1]),
    memTotalKiB: Number(/^MemTotal:\s+(\d+)/m.exec(text("/proc/meminfo"))?.[1]),
  };
}

function parseProcesses(entries: Map<string, Entry>): Map<number, TruthProcess> {
  // One pass over the archive: the entries of one process by their path below it.
  const byPid = new Map<number, Map<string, Buffer>>();
  const gone = new Set<number>();
  for (const [path, entry] of entries) {
    const match = /^\/proc\/(\d+)\/(.*)$/s.exec(path);
    if (!match) continue;
    const pid = Number(match[1]);
    if (entry.kind === "error") {
      // ENOENT of a file and ESRCH: the process ended. A link may be absent for other reasons.
      if (["stat", "status", "cmdline", "task"].includes(match[2]!)) gone.add(pid);
      continue;
    }
    const of = byPid.get(pid) ?? new Map<string, Buffer>();
    byPid.set(pid, of.set(match[2]!, entry.data));
  }
  const processes = new Map<number, TruthProcess>();
  for (const [pid, of] of byPid) if (!gone.has(pid)) processes.set(pid, parseProcess(pid, of));
  return processes;
}

function parseProcess(pid: number, of: Map<string, Buffer>): TruthProcess {
  const text = (name: string) => textOf(of.get(name) ?? Buffer.alloc(0));
  const stat = parseStat(text("stat"));
  const status = parseStatus(text("status"));
  const threads: TruthThread[] = [{ tid: pid, stat }];
  for (const [name, data] of of) {
    const tid = Number(/^task\/(\d+)\/stat$/.exec(name)?.[1] ?? Number.NaN);
    if (tid === pid) threads[0]!.stat = parseStat(textOf(data));
    else if (!Number.isNaN(tid)) threads.push({ tid, stat: parseStat(textOf(data)) });
  }
  threads.sort((a, b) => a.tid - b.tid);
  const next = stat.state === "Z" ? threads.find((thread) => thread.stat.state !== "Z") : undefined;
  const folder = next === undefined ? "" : `task/${next.tid}/`;
  if (next !== undefined) {
    Object.assign(stat, { vsize: next.stat.vsize, rss: next.stat.rss });
    for (const [key, value] of parseStatus(text(`${folder}status`))) if (key.startsWith("Vm")) status.set(key, value);
  }
  const ids = (key: string) => (status.get(key) ?? "").split(/\s+/).map(Number);
  const link = (name: string) => (of.has(folder + name) ? text(folder + name) : null);
  const namespaces = new Map<string, string>();
  const files = new Map<number, string>();
  for (const [name, data] of of) {
    if (!name.startsWith(folder)) continue;
    const [kind, key] = name.slice(folder.length).split("/");
    if (kind === "ns") namespaces.set(key!, textOf(data));
    else if (kind === "fd") files.set(Number(key), textOf(data));
  }
  const cmdline = of.get(`${folder}cmdline`) ?? Buffer.alloc(0);
  const environ = of.get(`${folder}environ`) ?? Buffer.alloc(0);
  return {
    pid,
    folder: `/proc/${pid}/${folder}`.slice(0, -1),
    ended: stat.state === "Z" && next === undefined,
    comm: stat.comm,
    stat,
    status,
    uids: ids("Uid"),
    gids: ids("Gid"),
    cmdline,
    argv: nulTerminated(cmdline),
    environ,
    env: nulTerminated(environ),
    exe: link("exe"),
    cwd: link("cwd"),
    root: link("root"),
    namespaces,
    cgroup: /^0::(.*)$/m.exec(text("cgroup"))?.[1] ?? null,
    files,
    threads,
    // PF_KTHREAD of include/linux/sched.h.
    kernelThread: (stat.flags & 0x00200000) !== 0,
  };
}

/** Parses /proc/PID/stat. The name may hold spaces and parentheses: it ends at the last one. */
export function parseStat(line: string): Stat {
  const open = line.indexOf("(");
  const close = line.lastIndexOf(")");
  if (open < 0 || close < open) throw new Error(`not a line of /proc/PID/stat: ${JSON.stringify(line)}`);
  const fields = line.slice(close + 2).split(" ");
  // proc(5) counts from 1, and the field after the name is the third.
  const field = (number: number) => Number(fields[number - 3]);
  return {
    pid: Number(line.slice(0, open - 1)),
    comm: line.slice(open + 1, close),
    state: fields[0] ?? "",
    ppid: field(4),
    pgrp: field(5),
    session: field(6),
    ttyNr: field(7),
    flags: field(9),
    utime: field(14),
    stime: field(15),
    priority: field(18),
    nice: field(19),
    numThreads: field(20),
    starttime: field(22),
    vsize: field(23),
    rss: field(24),
  };
}

/** Parses /proc/PID/status. */
export function parseStatus(text: string): Map<string, string> {
  const status = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) status.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return status;
}

/** Splits what is ended, not separated, by NUL: an empty last argument counts. */
export function nulTerminated(bytes: Buffer): string[] {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(0, at);
    const end = found < 0 ? bytes.length : found;
    parts.push(textOf(bytes.subarray(at, end)));
    at = end + 1;
  }
  return parts;
}
