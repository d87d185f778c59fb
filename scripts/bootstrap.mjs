// Runs one of the project's programs on the Node that the project pins, from whatever state a clone is in:
//   node scripts/bootstrap.mjs demo/main.ts --once
// (with `exec` in package.json, so that a signal to npm arrives here and not at a shell between).
// Plain JavaScript that old releases of Node understand, since it may be the system's that starts it.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(fileURLToPath(import.meta.url), "../..");
const modules = join(root, "node_modules");
const readJson = (file) => JSON.parse(readFileSync(file, "utf8"));

/** Every pinned package is there in the version that package.json names. */
function packagesArePresent() {
  const { dependencies, devDependencies } = readJson(join(root, "package.json"));
  return Object.entries({ ...dependencies, ...devDependencies }).every(([name, version]) => {
    const manifest = join(modules, name, "package.json");
    return existsSync(manifest) && readJson(manifest).version === version;
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

if (!packagesArePresent()) {
  console.log("Installing the packages that package-lock.json names (npm install) …");
  const { status, error } = spawnSync("npm", ["install", "--no-progress"], { cwd: root, stdio: "inherit" });
  if (error || status !== 0) fail(`npm install failed${error ? `: ${error.message}` : ""}; see its messages above.`);
  if (!packagesArePresent()) fail("npm install ended well but left packages out: remove node_modules and try again.");
}

const node = join(modules, ".bin", "node");
// A native package that could not be had is left out by npm without a word: say it here rather than in the middle of a run.
const natives = { koffi: "", "@litko/yara-x": "", esbuild: ".transformSync('1')" };
for (const [name, use] of Object.entries(natives)) {
  const entry = createRequire(join(root, "package.json")).resolve(name);
  const { status, stderr } = spawnSync(node, ["-e", `require(${JSON.stringify(entry)})${use}`], { encoding: "utf8" });
  if (status !== 0) {
    const reason = (stderr || "").split("\n").find((line) => line.includes("Error")) || "no reason given";
    fail(`The native part of ${name} does not load (${reason}). CloudVMI runs on Linux x86-64 with glibc.`);
  }
}

const [program, ...rest] = process.argv.slice(2);
if (!program) fail("Usage: node scripts/bootstrap.mjs PROGRAM.ts [ARGUMENT …]");
const child = spawn(node, [resolve(root, program), ...rest], {
  stdio: "inherit",
  env: { ...process.env, PATH: `${join(modules, ".bin")}:${process.env.PATH}` },
});
// ^C reaches the child by itself, as a member of the terminal's process group: only wait for it to clean up.
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
