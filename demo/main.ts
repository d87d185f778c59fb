// `npm run demo`: a service over two hosts with the VMs of two tenants, shown and then left running until ^C.
// `npm run demo -- --once` ends everything again by itself.
import { spawnSync } from "node:child_process";
import { relative, resolve } from "node:path";
import { parseArgs, styleText } from "node:util";
import { ensureLab } from "../lab/index.ts";
import { type Cluster, type ClusterSpec, program, startCluster } from "./cluster.ts";

const spec: ClusterSpec = {
  hosts: {
    host1: {
      web1: { project: "acme", labels: { tier: "web" }, guest: { kernel: "6.12" } },
      ledger: { project: "globex", labels: { tier: "books" }, guest: { kernel: "6.12" } },
    },
    // RAM as QEMU has it unasked: nothing was prepared for introspection.
    host2: { db1: { project: "acme", labels: { tier: "data" }, guest: { kernel: "6.1", ram: "anonymous" } } },
  },
  users: { alice: { project: "acme", role: "responder" }, bob: { project: "globex", role: "responder" } },
};

const started = performance.now();
const say = (line: string) =>
  console.log(`[${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s] ${line}`);
const heading = (text: string) => console.log(`\n${styleText("bold", text)}`);

const here = relative(process.cwd(), program);
const command = here.startsWith("..") ? program : `./${here}`;

async function main(once: boolean, signal: AbortSignal): Promise<void> {
  say("building …");
  const build = spawnSync(process.execPath, [resolve(import.meta.dirname, "../scripts/build.ts")], {
    encoding: "utf8",
  });
  if (build.status !== 0) throw new Error(`the build failed: ${build.stderr.trim()}`);
  say("lab: QEMU, kernels and the guests' file system …");
  await ensureLab(say);
  await using cluster = await startCluster(spec, say, signal);
  say("everything is up");
  await show(cluster);
  if (!once) {
    invite(cluster);
    if (!signal.aborted) await new Promise((done) => signal.addEventListener("abort", done));
    console.log();
  }
  say("ending the guests, agents and control …");
}

/** What a tenant sees, and what not, by the command line that tenants use. */
async function show(cluster: Cluster): Promise<void> {
  heading("Alice of acme sees her project's VMs, on both hosts:");
  await shown(cluster, "alice", ["vms"]);

  heading("What runs in them now, read from outside (without the kernel's own threads):");
  await shown(cluster, "alice", ["ps", "--where", "kernel_thread=0"]);

  heading("The VM of globex is on host1 too. Bob sees it:");
  await shown(cluster, "bob", ["vms"]);

  heading("To Alice it answers exactly as a VM that does not exist:");
  const theirs = await shown(cluster, "alice", ["ps", "ledger"], 3);
  const nobodys = await shown(cluster, "alice", ["ps", "no-such-vm"], 3);
  if (theirs.replaceAll("ledger", "NAME") !== nobodys.replaceAll("no-such-vm", "NAME"))
    throw new Error("a VM of another tenant does not answer as one that does not exist");
}

/** Runs a command as the user and shows both; returns what it printed. */
async function shown(cluster: Cluster, user: string, args: readonly string[], expected = 0): Promise<string> {
  console.log(styleText("dim", `${user}$ cloudvmi ${args.join(" ")}`));
  const { code, stdout, stderr } = await cluster.cli(user, args);
  const output = `${stdout}${stderr}`;
  process.stdout.write(fitted(output, process.stdout.columns ?? 120));
  if (code !== expected) throw new Error(`cloudvmi ${args.join(" ")} as ${user} ended with ${code}, not ${expected}`);
  return output;
}

/** Lines cut at the width: the lab's guests have processes with very long arguments. */
const fitted = (text: string, width: number) =>
  text.replaceAll(/^.+$/gm, (line) => (line.length > width ? `${line.slice(0, width - 1)}…` : line));

function invite(cluster: Cluster): void {
  const environment = Object.entries(cluster.environment("alice")).map(([name, value]) => `${name}=${value}`);
  heading("Everything stays up until ^C. In another terminal:");
  const web1 = cluster.guests.get("web1")!;
  const lines = [
    `export ${environment.join(" ")}`,
    `${command} ps web1`,
    `${command} ps --where name=python3 --json`,
    `${command} modules db1`,
    `${command} info`,
    `${command} symbol web1 init_task`,
    `${command} pause web1 --seconds 10   # it runs on by itself after 10 seconds`,
    `${command} vms --context bob`,
    `${command} admin audit --context operator`,
    `${command} local ps --qmp ${web1.groundQmp}   # with no service at all`,
  ];
  console.log(lines.map((line) => `  ${line}`).join("\n"));
}

const options = { once: { type: "boolean", default: false } } as const;
let once: boolean;
try {
  ({ once } = parseArgs({ options }).values);
} catch (error) {
  console.error(`${(error as Error).message}\nUsage: npm run demo [-- --once]`);
  process.exit(2);
}
const ending = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => ending.abort());
try {
  await main(once, ending.signal);
  say("done");
} catch (error) {
  const interrupted = ending.signal.aborted;
  console.error(interrupted ? "interrupted" : `demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = interrupted ? 130 : 1;
}
