/** The engine alone, on the shared RAM of a running guest, each measurement in a process of its own. */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { nodeFlags } from "../agent/sandbox/bubblewrap.ts";
import { cacheFolder, type LabGuest } from "../lab/index.ts";
import { bundle } from "../scripts/build.ts";
import { findRam, Qmp, readRegisters } from "../vmi/driver/qemu/index.ts";
import type { EngineOrder, EngineResult } from "./engine-worker.ts";
import { atLeast, atMost, type Figure, figure, median, percentile, ratioOf } from "./figures.ts";

const distribution = join(import.meta.dirname, "..", "dist");
const ATTACHMENTS = 12;
const ROUNDS = 3;
const FLOOR_RUNS = 2000;

/** A worker's measurements of a guest, and the descriptor of its RAM. */
async function workerOn(guest: LabGuest) {
  const qmp = await Qmp.connect(guest.groundQmp);
  const ram = await findRam(qmp, guest.pid);
  const registers = (await readRegisters(qmp)).map((vcpu) => ({
    index: vcpu.index,
    registers: Object.fromEntries(Object.entries(vcpu.registers).map(([name, value]) => [name, String(value)])),
  }));
  qmp.close();
  const { ranges, populated, backings } = ram.layout;
  const descriptor = backings[0]?.fd as number;
  const run = (order: Omit<EngineOrder, "layout" | "registers">) =>
    runWorker({ ...order, registers, layout: { ranges, populated } }, descriptor);
  return { run, descriptor, [Symbol.dispose]: () => ram[Symbol.dispose]() };
}

/** What hangs on processes, as the issue counts it. */
const PROCESS_TABLES = /^process|^(?:kernel_threads|ptrace_relations|shell_history|cgroups)$/;

const LIMITED = ["connections"];

/** Whole tables, all rows and columns, of a guest that has something in each. */
export async function measureTables(guest: LabGuest, progress: (line: string) => void): Promise<Figure[]> {
  progress("engine, full workload: every table …");
  using worker = await workerOn(guest);
  const { tables: every = [] } = await worker.run({ measure: "tables" });
  const again = every.map(({ name }) => name).filter((name) => PROCESS_TABLES.test(name) || LIMITED.includes(name));
  const rounds = [every];
  while (rounds.length < ROUNDS) rounds.push((await worker.run({ measure: "tables", tables: again })).tables ?? []);
  // Of each the quietest round, as of the lists.
  const tables = every.map((table) => {
    const medians = rounds.flatMap((round) => round.filter(({ name }) => name === table.name));
    return { ...table, medianUs: Math.min(...medians.map(({ medianUs }) => medianUs)) };
  });
  const about = tables.filter(({ name }) => PROCESS_TABLES.test(name));
  const tasks = tables.find(({ name }) => name === "processes")?.rows;
  const total = about.reduce((sum, { medianUs }) => sum + medianUs, 0) / 1000;
  const one = (table: string, limitMs: number) => {
    const found = tables.find(({ name }) => name === table);
    const value = (found?.medianUs ?? Number.NaN) / 1000;
    return atMost(`engine: ${table}, ${found?.rows} rows`, value, "ms", limitMs);
  };
  const slowest = tables.toSorted((a, b) => b.medianUs - a.medianUs).slice(0, SLOWEST);
  return [
    atMost(`engine: ${about.length} tables of processes of a guest of ${tasks} tasks, together`, total, "ms", 15),
    one("connections", 2),
    one("process_open_files", 4),
    ...slowest.map(({ name, rows, medianUs }) => figure(`  ${name}, ${rows} rows`, medianUs / 1000, "ms")),
  ];
}

const SLOWEST = 8;

/** The checks; where they find something, they look twice. The guest has some of what they look for. */
export async function measureChecks(
  guest: LabGuest,
  kernelImage: string,
  progress: (line: string) => void,
): Promise<Figure[]> {
  progress("engine, full workload: every check …");
  using worker = await workerOn(guest);
  const { checksUs = {}, ramBytes = Number.NaN } = await worker.run({ measure: "checks", kernelImage });
  const { together = Number.NaN, ...alone } = checksUs;
  const slabs = ramBytes / 2 ** 30 / ((alone["hidden-process-slab"] ?? Number.NaN) / 1e6);
  const text = (alone["kernel-text"] ?? Number.NaN) / 1000;
  const slowest = Object.entries(alone)
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, SLOWEST);
  return [
    atMost("engine: all checks but scans, together", together / 1000, "ms", 150),
    atLeast("engine: slabs of all RAM looked at for hidden tasks", slabs, "GiB/s", 1),
    atMost("engine: the kernel's text compared with its image", text, "ms", 60),
    ...slowest.map(([name, us]) => figure(`  ${name}`, us / 1000, "ms")),
  ];
}

const GIB = 2 ** 30;

/** YARA over memory, against the same engine on a plain buffer. */
export async function measureScan(guest: LabGuest, progress: (line: string) => void): Promise<Figure[]> {
  progress("engine: YARA over RAM, and over a plain copy of it …");
  using worker = await workerOn(guest);
  const { scan } = await worker.run({ measure: "scan" });
  const rate = (name: keyof NonNullable<typeof scan>) => (scan?.[name] ?? Number.NaN) / GIB;
  return [
    atLeast("scan: a YARA rule over physical RAM", rate("ram"), "GiB/s", 1),
    figure("  over the kernel: image, modules, vmalloc, slabs", rate("kernel"), "GiB/s"),
    figure("  over processes", rate("processes"), "GiB/s"),
    ratioOf(
      "scan: four kinds of patterns at once over physical RAM, against a plain buffer",
      rate("mixedRam"),
      "GiB/s",
      { name: "buffer", value: rate("mixedPlain") },
      { atLeast: 0.5 },
    ),
  ];
}

/** @param targets what the issue wants of a guest of this size: microseconds for the list */
export async function measureEngine(
  guest: LabGuest,
  label: string,
  targets: { listUs: number; attach: boolean },
  progress: (line: string) => void,
): Promise<Figure[]> {
  using worker = await workerOn(guest);
  const { run, descriptor } = worker;
  const figures: Figure[] = [];

  const first = await run({ measure: "attach" });
  if (targets.attach) {
    progress(`engine, ${label}: attaching to an unknown and to a known kernel …`);
    const unknown: number[] = [];
    const known: number[] = [];
    for (let i = 0; i < ATTACHMENTS; i++) {
      unknown.push((await run({ measure: "attach" })).firstRowMs);
      const again = await run({ measure: "attach", profile: first.profile });
      if (!again.cached) throw new Error("the profile did not serve");
      known.push(again.firstRowMs);
    }
    figures.push(
      atMost("engine: unknown kernel, open to first row", quiet(unknown), "ms", 250),
      atMost("engine: known kernel, open to first row", quiet(known), "ms", 15),
    );
    const reads = await run({ measure: "read", profile: first.profile });
    figures.push(figure("engine: read of 4 KiB, p50", median(reads.readUs ?? []), "µs"));
  }

  progress(`engine, ${label}: process list against the walker in C …`);
  const walker = compileWalker(progress);
  const lists: number[] = [];
  const floors: number[] = [];
  let rows = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const result = await run({ measure: "list", profile: first.profile });
    lists.push(median(result.listUs ?? []));
    rows = result.rows ?? 0;
    if (walker !== undefined) floors.push(runWalker(walker, result.walker ?? [], guest.pid, descriptor));
  }
  const name = `engine: list of ${rows} tasks (pid, parent, name, state, uid), caches dropped`;
  const value = Math.min(...lists);
  figures.push(atMost(name, value, "µs", targets.listUs));
  if (floors.length > 0) {
    figures.push(
      ratioOf(
        "  the same against a bare walk in C",
        value,
        "µs",
        { name: "C", value: Math.min(...floors) },
        { atMost: 8 },
      ),
    );
  }
  return figures;
}

/** Of runs that took a process each: others on the machine only add to them, half of the time or more on a shared one. */
function quiet(values: readonly number[]): number {
  return percentile(values, 25);
}

async function runWorker(order: EngineOrder, descriptor: number): Promise<EngineResult> {
  // Bundled, compiled before, and with the flags of an inspector, as that is what the engine runs in.
  const child = spawn(process.execPath, [...nodeFlags, await workerBundle()], {
    stdio: ["pipe", "pipe", "inherit", descriptor],
    env: { ...process.env, NODE_COMPILE_CACHE: join(distribution, "bench-cache") },
  });
  child.stdin?.end(JSON.stringify(order));
  return JSON.parse(await text(child.stdout as NodeJS.ReadableStream)) as EngineResult;
}

let bundled: Promise<string> | undefined;

function workerBundle(): Promise<string> {
  bundled ??= (async () => {
    const program = join(distribution, "engine-worker.cjs");
    await bundle("bench/engine-worker.ts", program);
    return program;
  })();
  return bundled;
}

/** Undefined where there is no C compiler. */
function compileWalker(progress: (line: string) => void): string | undefined {
  const folder = join(cacheFolder(), "bench");
  const program = join(folder, "walker");
  mkdirSync(folder, { recursive: true });
  try {
    execFileSync("cc", ["-O2", "-o", program, join(import.meta.dirname, "floor", "walker.c")], { stdio: "pipe" });
    return program;
  } catch (error) {
    progress(`no C floor: ${(error as Error).message.split("\n", 1)[0]}`);
    return undefined;
  }
}

/** Microseconds of the median walk. */
function runWalker(program: string, walker: readonly string[], pid: number, descriptor: number): number {
  const [pgd, levels, init, ...offsets] = walker as [string, string, string, ...string[]];
  const ramFile = `/proc/${process.pid}/fd/${descriptor}`;
  const size = String(1 << 30);
  const output = execFileSync(program, [ramFile, size, pgd, levels, init, ...offsets, String(FLOOR_RUNS)], {
    encoding: "utf8",
    maxBuffer: 1 << 24,
  });
  const lines = output.trim().split("\n");
  if (lines.length !== FLOOR_RUNS) throw new Error(`the walker in C failed on process ${pid}'s RAM`);
  return median(lines.map((line) => Number(line.split(" ")[1]) / 1000));
}
