/** The walls around an inspector, as bubblewrap builds them. */
import { execFileSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join } from "node:path";

/** The identity that owns nothing: "nobody" and "nogroup" on every distribution. */
export const nobody = 65534;

/** Heap of an inspector in MiB; what it reads lies outside the heap. */
const heapMiB = 128;
/** How Node runs an inspector. */
export const nodeFlags = [
  `--max-old-space-size=${heapMiB}`,
  "--max-semi-space-size=1",
  // One helper thread: an inspector serves one guest, and a host runs a hundred of them.
  "--v8-pool-size=1",
  "--no-warnings",
];

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
  return [...args, "--", "/node", ...nodeFlags, `/app/${basename(program)}`];
}

/** Host file and its place in the sandbox. */
function programFiles(program: string): [string, string][] {
  const natives = [nativePackage("koffi", `@koromix/koffi-linux-${process.arch}`)];
  if (basename(program) === scanner) natives.push(nativePackage("@litko/yara-x", yaraNative));
  return [
    [realpathSync(process.execPath), "/node"],
    ...sharedLibraries().map((path): [string, string] => [path, path]),
    ...natives.flat(),
    [program, `/app/${basename(program)}`],
  ];
}

/** The bundle that has YARA. */
const scanner = "scanner.cjs";
const yaraNative = `@litko/yara-x-linux-${process.arch}-gnu`;

/** A package and the one with its native part, and their places in the sandbox. @throws Error when one is not installed. */
function nativePackage(name: string, nativeName: string): [string, string][] {
  const main = createRequire(import.meta.url).resolve(name);
  const native = createRequire(main).resolve(nativeName);
  return [
    [dirname(main), `/app/node_modules/${name}`],
    [dirname(native), `/app/node_modules/${nativeName}`],
  ];
}

/** False where YARA is not installed, or has no native part for this machine. */
export function hasYara(): boolean {
  try {
    return nativePackage("@litko/yara-x", yaraNative).length > 0;
  } catch {
    return false;
  }
}

let libraries: string[] | undefined;

/** The libraries that Node is linked to, under the names by which the loader looks for them. */
function sharedLibraries(): string[] {
  libraries ??= [
    ...execFileSync("ldd", [process.execPath], { encoding: "utf8" }).matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm),
  ].map((match) => match[1]!);
  return libraries;
}

/** True when a program of this name is in PATH. */
export function installed(name: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => folder !== "" && existsSync(join(folder, name)));
}
