/** The whole service: client, control, agent and inspector in processes of their own, TLS between them, on loopback. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { REST_MS } from "../agent/inspector/idle-gc.ts";
import { createAuthority, issueCertificate } from "../control/index.ts";
import type { Cluster } from "../demo/cluster.ts";
import type { GuestHandle } from "../sdk/index.ts";
import { measureBareTls } from "./bare-tls.ts";
import { atMost, type Figure, figure, median, percentile, ratioOf } from "./figures.ts";

const COLUMNS = ["pid", "parent", "name", "state", "uid"];
const CALLS = 600;
/** The service at work: its processes have been up for minutes, not for seconds. */
const WARM_UP = 1500;
const STREAM_BYTES = 256 << 20;
const STREAM_ROUNDS = 5;

/** The first answer about a VM whose kernel the agent has never seen, nor has an inspector for. */
export async function measureFirstAnswer(guest: GuestHandle): Promise<Figure> {
  const begin = performance.now();
  await guest.table("processes", { columns: COLUMNS }).all();
  return atMost("service: unknown kernel, question to answer", performance.now() - begin, "ms", 600);
}

export async function measureService(
  guest: GuestHandle,
  many: GuestHandle,
  progress: (line: string) => void,
): Promise<Figure[]> {
  progress("service: process list, 4 KiB reads, rows …");
  const rows = (await guest.table("processes", { columns: COLUMNS }).all()).length;
  const list = await timed(() => guest.table("processes", { columns: COLUMNS }).all());
  const figures = [
    atMost(`service: list of ${rows} tasks over TLS, p50`, median(list), "ms", 2),
    figure("  p99", percentile(list, 99), "ms"),
  ];
  const [task] = await guest.symbols({ names: ["init_task"] });
  const address = task?.address ?? 0n;
  const read = await timed(() => guest.read("kernel", address & ~0xfffn, 4096));
  figures.push(
    figure("service: read of 4 KiB over TLS, p50", median(read), "ms"),
    figure("  p99", percentile(read, 99), "ms"),
  );
  const every = await timed(() => many.table("processes").all(), 12, 4);
  const manyRows = await many.table("processes").all();
  const cells = manyRows.length * Object.keys(manyRows[0] ?? {}).length;
  figures.push(
    figure("service: rows of processes, all columns", manyRows.length / (median(every) / 1000), "rows/s"),
    figure("  cells", cells / (median(every) / 1000), "cells/s"),
  );
  return figures;
}

/** @param start where RAM without holes or zeros begins, so that every byte has to travel */
export async function measureStream(guest: GuestHandle, progress: (line: string) => void): Promise<Figure[]> {
  progress("service: stream of memory against a bare TLS socket …");
  const authority = await createAuthority("CloudVMI bench");
  const { certificate, key } = await issueCertificate(authority, {
    name: "bench",
    usage: "server",
    hosts: ["127.0.0.1"],
  });
  const ours: number[] = [];
  const bare: number[] = [];
  let share = 0;
  for (let round = 0; round < STREAM_ROUNDS; round++) {
    bare.push(await measureBareTls(STREAM_BYTES, { certificate, key }));
    const begin = performance.now();
    let carried = 0;
    let covered = 0;
    const start = 64n << 20n;
    for await (const piece of guest.streamMemory({ start, length: BigInt(STREAM_BYTES), reuse: true })) {
      if ("data" in piece) {
        carried += piece.data.length;
        covered += piece.data.length;
      } else {
        covered += Number("zeros" in piece ? piece.zeros : piece.absent);
      }
    }
    if (covered !== STREAM_BYTES) throw new Error(`the stream covered ${covered} bytes of ${STREAM_BYTES}`);
    ours.push(carried / ((performance.now() - begin) / 1000) / (1 << 20));
    share = carried / covered;
  }
  const name = `service: stream of 256 MiB of RAM, ${Math.round(share * 100)} % of it not zero; bytes carried`;
  return [ratioOf(name, median(ours), "MiB/s", { name: "bare TLS", value: median(bare) }, { atLeast: 0.6 })];
}

/** The most private memory that an inspector has while every table of its guest is asked for, all columns. */
export async function measurePeak(
  cluster: Cluster,
  guest: GuestHandle,
  progress: (line: string) => void,
): Promise<Figure> {
  progress("inspector: private memory while every table is read …");
  let peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, ...inspectorSizes(cluster));
  }, SAMPLE_MS);
  try {
    for (const { name, required } of await guest.tables()) if (required.length === 0) await guest.table(name).all();
  } finally {
    clearInterval(watch);
  }
  return atMost("inspector: private memory at its peak, every table read", peak, "MiB", 200);
}

const SAMPLE_MS = 5;

/** Private memory of the inspectors that the cluster's agents run, at rest. */
export async function measureInspectors(cluster: Cluster): Promise<Figure[]> {
  await sleep(REST_MS + 1000);
  const sizes = inspectorSizes(cluster);
  return [atMost(`inspector: private memory at rest, largest of ${sizes.length}`, Math.max(...sizes), "MiB", 60)];
}

function inspectorSizes(cluster: Cluster): number[] {
  const agents = new Set([...cluster.processes.values()].map((service) => service.pid));
  const sizes = descendants(agents)
    .filter((pid) => {
      const [program, ...args] = commandOf(pid);
      return program?.endsWith("/node") && args.some((arg) => arg.endsWith("/inspector.cjs"));
    })
    .map(privateMiB);
  if (sizes.length === 0) throw new Error("the agents run no inspector");
  return sizes;
}

async function timed(work: () => Promise<unknown>, calls = CALLS, warmUp = WARM_UP): Promise<number[]> {
  for (let i = 0; i < warmUp; i++) await work();
  const times: number[] = [];
  for (let i = 0; i < calls; i++) {
    const begin = performance.now();
    await work();
    times.push(performance.now() - begin);
  }
  return times;
}

function descendants(roots: ReadonlySet<number>): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(`/proc/${name}/stat`);
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    if (parent > 0) parents.set(Number(name), parent);
  }
  return [...parents.keys()].filter((pid) => {
    for (let at: number | undefined = pid; at !== undefined; at = parents.get(at)) if (roots.has(at)) return true;
    return false;
  });
}

function commandOf(pid: number): string[] {
  return read(`/proc/${pid}/cmdline`).split("\0");
}

/** Unique set size: what the process would give back if it ended. */
function privateMiB(pid: number): number {
  const rollup = read(`/proc/${pid}/smaps_rollup`);
  const kilobytes = [...rollup.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB/gm)].map((match) => Number(match[1]));
  return kilobytes.reduce((sum, size) => sum + size, 0) / 1024;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
