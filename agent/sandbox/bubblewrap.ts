/** The walls around an inspector, as bubblewrap builds them. */
import { execFileSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join } from "node:path";

/** The identity that owns nothing: "nobody" and "nogroup" on every distribution. */
export const nobody = 65534;

/** Heap of an inspector in MiB; what it reads lies outside the heap. */
const heapMiB = 128;
/** And of a scanner: each match comes with a copy of its bytes. */
const scannerHeapMiB = 512;
/** The bundle that has YARA. */
const scanner = "scanner.cjs";

/** How Node runs an inspector. */
export const nodeFlags = flagsOf("inspector.cjs");

/** How Node runs a bundle. */
export function flagsOf(program: string): string[] {
  return [
    `--max-old-space-size=${basename(program) === scanner ? scannerHeapMiB : heapMiB}`,
    // Rows of one answer outlive a young generation of 1 MiB and would be moved: that costs a third of the time. See inspector/idle-gc.ts.
    "--max-semi-space-size=16",
    "--expose-gc",
    // Walks call many small functions: more of them are put where they are called (a list of tasks takes 5 % less).
    "--max-inlined-bytecode-size-cumulative=3000",
    // One helper thread: an inspector serves one guest, and a host runs a hundred of them.
    "--v8-pool-size=1",
    "--no-warnings",
  ];
}

/** An empty root with Node, the libraries it is linked to, native packages, and the bundle; namespaces of its own; no capability but to become nobody. */
export function bubblewrapArguments(
  program: string,
  variables: Readonly<Record<string, string>>,
  filterFd: number | undefined,
): string[] {
  const args =
    process.getuid?.() === 0
      ? ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
      : ["--unshare-user"];
  args.push("--unshare-net", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try");
  args.push("--die-with-parent", "--new-session", "--hostname", "inspector", "--clearenv");
  for (const [name, value] of Object.entries(variables)) args.push("--setenv", name, value);
  const cache = program.replace(/\.cjs$/, "-cache");
  if (existsSync(cache)) {
    // Paths in the cache are kept relative to it, so that it holds at another place too.
    const inside = `/app/${basename(cache)}`;
    args.push("--ro-bind", cache, inside, "--setenv", "NODE_COMPILE_CACHE", inside);
    args.push("--setenv", "NODE_COMPILE_CACHE_PORTABLE", "1");
  }
  for (const [source, target] of programFiles(program)) args.push("--ro-bind", source, target);
  args.push("--remount-ro", "/", "--chdir", "/");
  if (filterFd !== undefined) args.push("--add-seccomp-fd", String(filterFd));
  return [...args, "--", "/node", ...flagsOf(program), `/app/${basename(program)}`];
}

const koffi = nativePackage("koffi", `@koromix/koffi-linux-${process.arch}`);
const yara = nativePackage("@litko/yara-x", `@litko/yara-x-linux-${process.arch}-gnu`);

/** False where YARA is not installed, or has no native part for this machine. */
export const hasYara = yara !== undefined;

/** Host file and its place in the sandbox. */
function programFiles(program: string): [string, string][] {
  const natives = [koffi, ...(basename(program) === scanner ? [yara] : [])].filter((found) => found !== undefined);
  const binaries = natives.map(({ library }) => library).filter((file) => file.endsWith(".node"));
  const linked = [process.execPath, ...binaries].flatMap(sharedLibraries);
  return [
    [realpathSync(process.execPath), "/node"],
    ...[...new Set(linked)].map((path): [string, string] => [path, path]),
    ...natives.flatMap(({ folders }) => folders),
    [program, `/app/${basename(program)}`],
  ];
}

/** A package and the one with its native part, with their places in the sandbox; undefined when one is not installed. */
function nativePackage(name: string, nativeName: string) {
  try {
    const main = createRequire(import.meta.url).resolve(name);
    const library = createRequire(main).resolve(nativeName);
    const place = (file: string, within: string): [string, string] => [dirname(file), `/app/node_modules/${within}`];
    return { library, folders: [place(main, name), place(library, nativeName)] };
  } catch {
    return undefined;
  }
}

const libraries = new Map<string, string[]>();

/** The libraries that a program is linked to, under the names by which the loader looks for them. */
function sharedLibraries(file: string): string[] {
  let found = libraries.get(file);
  if (found === undefined) {
    const output = execFileSync("ldd", [file], { encoding: "utf8" });
    found = [...output.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map((match) => match[1]!);
    libraries.set(file, found);
  }
  return found;
}

/** True when a program of this name is in PATH. */
export function installed(name: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => folder !== "" && existsSync(join(folder, name)));
}
