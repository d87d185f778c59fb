// What the tests of the service share: the topology, and how they hold the command line to its promises.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { CliResult, Cluster, ClusterSpec } from "../../demo/cluster.ts";

/** Two hosts, two tenants; host1 carries VMs of both. */
export const topology: ClusterSpec = {
  hosts: {
    host1: {
      web1: { project: "acme", labels: { tier: "web" }, guest: { kernel: "6.12" } },
      ledger: { project: "globex", guest: { kernel: "6.1" } },
    },
    host2: { db1: { project: "acme", guest: { kernel: "6.1", ram: "anonymous" } } },
  },
  users: {
    alice: { project: "acme", role: "responder" },
    vera: { project: "acme", role: "viewer" },
    bob: { project: "globex", role: "responder" },
  },
};

/** Runs the CLI as the user and expects it to succeed; its output as JSON. */
export async function json<T = Record<string, unknown>[]>(
  cluster: Cluster,
  user: string,
  args: readonly string[],
): Promise<T> {
  const { code, stdout, stderr } = await cluster.cli(user, [...args, "--json"]);
  assert.equal(code, 0, `cloudvmi ${args.join(" ")}: ${stderr}`);
  return JSON.parse(stdout);
}

/** A failed command says so in one line, prints nothing else, and exits with the code. Returns the line. */
export function assertOneLine(result: CliResult, code: number, about: RegExp, what: string): string {
  const text = JSON.stringify(result);
  assert.equal(result.stdout, "", `${what}: ${text}`);
  assert.match(result.stderr, /^cloudvmi: [^\n]+\n$/, `${what}: ${text}`);
  assert.equal(result.code, code, `${what}: ${text}`);
  assert.match(result.stderr, about, what);
  return result.stderr;
}

/** Asks until the answer is there. Throws the last failure after the time given. */
export async function eventually<T>(seconds: number, ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(200);
    }
  }
}

interface ProcessStatus {
  pid: number;
  parent: number;
  command: string;
}

function processes(): ProcessStatus[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
        return [{ pid: Number(name), parent, command }];
      } catch {
        return []; // It has ended since.
      }
    });
}

/** Whether the process runs: not ended, nor dead and waiting for its parent to notice. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** The processes below one, however deep, whose command line matches. */
export function descendants(ancestor: number, command: RegExp): number[] {
  const all = processes();
  const below = new Set([ancestor]);
  for (let before = 0; before !== below.size; ) {
    before = below.size;
    for (const { pid, parent } of all) if (below.has(parent)) below.add(pid);
  }
  return all
    .filter(({ pid, command: line }) => pid !== ancestor && below.has(pid) && command.test(line))
    .map(({ pid }) => pid);
}
