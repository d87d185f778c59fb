/**
 * One measurement of the engine in a process of its own, as an inspector is one: what is compiled and cached is this
 * process's doing alone. Gets a guest by descriptor 3 and its layout as JSON on stdin, prints the result as JSON.
 */
import { readFileSync } from "node:fs";
import { compileRules, type RuleSet } from "../agent/scanner/rules.ts";
import { gvaOf } from "../vmi/bytes/address.ts";
import { checks } from "../vmi/checks/index.ts";
import { attach, type GuestMemoryLayout, openMemory, prepare, tables, type VcpuRegisters } from "../vmi/index.ts";
import { cred } from "../vmi/linux/cred.ts";
import { initTask, taskStruct } from "../vmi/linux/task-struct.ts";
import { median } from "./figures.ts";

export interface EngineOrder {
  readonly layout: Pick<GuestMemoryLayout, "ranges" | "populated">;
  readonly registers: { readonly index: number; readonly registers: Record<string, string> }[];
  /** Base64. */
  readonly profile?: string;
  /** Of the guest's kernel, which its text is compared with. */
  readonly kernelImage?: string;
  readonly measure: "attach" | "list" | "read" | "tables" | "checks" | "scan";
  /** Of which tables; of all that need no constraint when it is absent. */
  readonly tables?: readonly string[];
}

export interface EngineResult {
  readonly profile: string;
  readonly cached: boolean;
  /** Milliseconds from opening the memory to the first row. */
  readonly firstRowMs: number;
  /** Microseconds of each list of five columns, and how many rows it had. */
  readonly listUs?: number[];
  readonly rows?: number;
  /** Microseconds of each read of 4 KiB. */
  readonly readUs?: number[];
  /** Of each table, microseconds of a read of all its rows and columns, and how many rows it had. */
  readonly tables?: { readonly name: string; readonly medianUs: number; readonly rows: number }[];
  /** Microseconds of the checks that are no scans, together, and of each one, by its name. */
  readonly checksUs?: Readonly<Record<string, number>>;
  readonly ramBytes?: number;
  /**
   * Bytes a second with YARA. With a text: of RAM by physical address, of the kernel, and of processes; with some of each
   * kind of pattern: of RAM, and of a plain copy of that.
   */
  readonly scan?: Record<"ram" | "kernel" | "processes" | "mixedRam" | "mixedPlain", number>;
  /** For the walker in C: pgd, levels, init_task and the offsets it takes, as decimal numbers. */
  readonly walker?: string[];
}

/** The columns of the list that is compared with the walker in C. */
const COLUMNS = ["pid", "parent", "name", "state", "uid"];
const WARM_UP = 3000;
const RUNS = 2000;
/** Of a whole table. */
const TABLE_RUNS = 40;
/** Until what reads a table has been compiled for good: an inspector that answers once a second has done so in minutes. */
const TABLE_WARM_UP = 200;
const TABLE_WARM_UP_MS = 1000;
const CHECK_RUNS = 15;

/** Pieces of RAM that are scanned in place and as copies, each of 4 MiB; how often each measurement is made. */
const COPIES = 48;
const SCANS = 5;
/** One text, and some patterns of each kind: with several at once YARA itself takes ten times as long, on any buffer. */
const TEXT = `rule text { strings: $a = "a text that is nowhere" condition: $a }`;
const MIXED = `rule mixed { strings:
  $text = "a text that is nowhere" $word = "Another-Such-Text" nocase
  $bytes = { 4d 5a 90 00 ?? 00 [2-8] ff ee dd cc } $expression = /password=[0-9a-f]{32}/
  condition: any of them }`;

const order = JSON.parse(readFileSync(0, "utf8")) as EngineOrder;
const registers: VcpuRegisters[] = order.registers.map((vcpu) => ({
  index: vcpu.index,
  registers: Object.fromEntries(Object.entries(vcpu.registers).map(([name, value]) => [name, BigInt(value)])),
}));
const profiles = order.profile === undefined ? [] : [Buffer.from(order.profile, "base64")];

// As an inspector does while it starts.
prepare();
const begin = performance.now();
using memory = openMemory({ ...order.layout, backings: [{ kind: "shared", fd: 3 }] });
const kernelImage = order.kernelImage === undefined ? undefined : readFileSync(order.kernelImage);
const guest = attach(memory, { registers, profiles, ...(kernelImage && { kernelImage }) });
guest.table("processes", { columns: COLUMNS, limit: 1 });
const result: { -readonly [Key in keyof EngineResult]: EngineResult[Key] } = {
  firstRowMs: performance.now() - begin,
  profile: Buffer.from(guest.profile).toString("base64"),
  cached: guest.profileWasCached,
};
if (order.measure === "list") {
  const { kernel } = guest;
  // Every call begins with translation caches and copies dropped: see Guest.table.
  const list = () => guest.table("processes", { columns: COLUMNS }).rows;
  result.listUs = timed(list);
  result.rows = list();
  const task = kernel.layout(taskStruct);
  const init = kernel.place(initTask);
  const levels = kernel.space.mmu.shifts.length;
  const offsets = [
    task.tasks,
    task.tgid,
    task.real_parent,
    task.comm,
    task.state,
    task.real_cred,
    kernel.layout(cred).uid,
  ];
  result.walker = [kernel.space.pgd, levels, gvaOf(init.hi, init.lo), ...offsets].map(String);
}
if (order.measure === "read") {
  const { hi, lo } = guest.kernel.place(initTask);
  const page = { space: "kernel" as const, address: gvaOf(hi, lo) & ~0xfffn, length: 4096 };
  result.readUs = timed(() => guest.read([page]).length);
}
if (order.measure === "tables") {
  result.tables = tables
    .filter(({ name, required }) => order.tables?.includes(name) ?? required.length === 0)
    .map(({ name }) => {
      const read = () => guest.table(name).rows;
      const begin = performance.now();
      for (let i = 0; i < TABLE_WARM_UP && (i < TABLE_RUNS || performance.now() - begin < TABLE_WARM_UP_MS); i++)
        read();
      return { name, medianUs: median(timed(read, 0, TABLE_RUNS)), rows: read() };
    });
}
if (order.measure === "checks") {
  const medianOf = (values: string[]) => {
    const look = () => {
      const answer = guest.table("findings", { where: [{ column: "check_name", values }] });
      if (answer.incomplete) throw new Error(answer.notes.join("; "));
      return answer.rows + 1;
    };
    return median(timed(look, CHECK_RUNS, CHECK_RUNS));
  };
  const alone = checks.map(({ name }) => [name, medianOf([name])] as const);
  const quick = checks.filter(({ cost }) => cost !== "scan").map(({ name }) => name);
  result.checksUs = { ...Object.fromEntries(alone), together: medianOf(quick) };
  result.ramBytes = order.layout.ranges.reduce((sum, { length }) => sum + length, 0);
}
if (order.measure === "scan") {
  const text = compileRules([{ name: "bench", source: TEXT }]);
  const mixed = compileRules([{ name: "bench", source: MIXED }]);
  const copies: Uint8Array[] = [];
  for (const { bytes } of guest.regions({ target: "physical" }))
    if (copies.push(new Uint8Array(bytes)) === COPIES) break;
  // One after the other, in turn: what else the machine does then slows all.
  const rates = { ram: 0, kernel: 0, processes: 0, mixedRam: 0, mixedPlain: 0 };
  const measured = (
    name: keyof typeof rates,
    rules: RuleSet,
    regions: () => Iterable<{ readonly bytes: Uint8Array }>,
    most?: number,
  ) => {
    rates[name] = Math.max(
      rates[name],
      rateOf(() => look(rules, regions(), most)),
    );
  };
  for (let i = 0; i < SCANS; i++) {
    measured("ram", text, () => guest.regions({ target: "physical" }));
    measured("kernel", text, () => guest.regions({ target: "kernel" }));
    measured("processes", text, () => guest.regions({ target: "processes" }));
    measured("mixedRam", mixed, () => guest.regions({ target: "physical" }), COPIES);
    measured("mixedPlain", mixed, () => copies.map((bytes) => ({ bytes })));
  }
  result.scan = rates;
}
process.stdout.write(JSON.stringify(result));

/** Bytes a second. */
function rateOf(work: () => number): number {
  const start = performance.now();
  const bytes = work();
  return (bytes / (performance.now() - start)) * 1000;
}

/** Looks through regions; the bytes that they had. */
function look(
  rules: RuleSet,
  regions: Iterable<{ readonly bytes: Uint8Array }>,
  most = Number.POSITIVE_INFINITY,
): number {
  let bytes = 0;
  let count = 0;
  for (const region of regions) {
    rules.scan(region.bytes);
    bytes += region.bytes.length;
    if (++count === most) break;
  }
  return bytes;
}

function timed(work: () => number, warmUp = WARM_UP, runs = RUNS): number[] {
  let sum = 0;
  for (let i = 0; i < warmUp; i++) sum += work();
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    sum += work();
    times.push((performance.now() - start) * 1000);
  }
  if (sum === 0) throw new Error("nothing was read");
  return times;
}
