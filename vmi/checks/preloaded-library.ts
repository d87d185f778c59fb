import { fileContents } from "../tables/file-contents.ts";
import { processEnvs } from "../tables/process-envs.ts";
import { type CheckContext, defineCheck, type Severity } from "./check.ts";
import { memorySeen, type SeenMemory } from "./memory-seen.ts";
import { baseName, describeProgram, identify, isInstalled, isScratch } from "./programs.ts";

/** What the dynamic loader takes libraries from, before those that a program names (ld.so(8)). */
const VARIABLES = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"];
const PRELOAD_FILE = "/etc/ld.so.preload";

export const preloadedLibrary = defineCheck({
  name: "preloaded-library",
  severity: "high",
  cost: "walk",
  compares:
    `The environment of every process for ${VARIABLES.join(", ")}, the content of ${PRELOAD_FILE} as far as it is in memory, ` +
    "and the libraries that are mapped with the directories that packages install to. A library that is loaded before " +
    "all others can replace any function of a program; one in a directory where everybody may write belongs to no package.",
  misses:
    "An environment that the program wrote over, unless the library is where none belongs; a library that was put among the " +
    "installed ones; ld.so.preload of a container, or where it is on disk only. Programs that unpack their libraries " +
    "(Java with JNA, PyInstaller) to /tmp are reported; LD_PRELOAD of installed libraries (jemalloc, fakeroot) as low. " +
    "Paths are those of the process's own mount namespace: a container has directories of its own.",
  confirm:
    "SELECT pid, value FROM process_envs WHERE key = 'LD_PRELOAD'; SELECT * FROM process_libraries WHERE pid = …; SELECT data FROM " +
    "file_contents WHERE path = '/etc/ld.so.preload'. In the guest, /proc/PID/environ and maps, with a static busybox.",
  reads: [
    "init_task",
    "mm_struct.env_start, and the processes' own memory",
    "vm_area_struct, file, dentry, mount",
    "super_blocks, inode, address_space (for ld.so.preload)",
  ],
  look: (context) => {
    lookAtFile(context);
    const processes = context.shared(memorySeen);
    const set = Map.groupBy(
      context.rows(processEnvs, { where: [{ column: "key", values: VARIABLES }] }),
      ({ pid }) => pid as number,
    );
    for (const process of processes) {
      const told = new Set<string>();
      for (const { key, value } of set.get(process.pid) ?? []) {
        for (const path of reportVariable(context, process, String(key), String(value ?? ""))) told.add(path);
      }
      for (const { path, deleted, rootless } of process.files) {
        if (rootless || path === process.path || told.has(path) || !isScratch(path)) continue;
        context.report({
          what: `${describeProgram(process)} runs code of ${path}${deleted ? ", which has been deleted since" : ""}`,
          where: describeProgram(process),
          evidence: `${path} is mapped, and may be executed`,
          expected: "libraries in directories that packages install to",
          identity: `${identify(process)} maps ${path}`,
          severity: "medium",
          pid: process.pid,
        });
      }
    }
  },
});

/** @returns the mapped files that it is about */
function reportVariable(context: CheckContext, process: SeenMemory, key: string, value: string): string[] {
  const parts = value.split(/[: ]/).filter((part) => part !== "");
  const search = key === "LD_LIBRARY_PATH";
  // A path to search is common; a library from where everybody may put one is not.
  const odd = parts.filter((part) => isScratch(`${part}/`) || part.split("/").some((name) => /^\.[^.]/.test(name)));
  if (parts.length === 0 || (search && odd.length === 0)) return [];
  const mapped = process.files
    .map(({ path }) => path)
    .filter((path) => parts.some((part) => (search ? path.startsWith(`${part}/`) : sameLibrary(path, part))));
  const installed = odd.length === 0 && parts.every((part) => !part.includes("/") || isInstalled(part));
  const severity: Severity = search || installed ? "low" : mapped.length > 0 ? "high" : "medium";
  context.report({
    what: `${describeProgram(process)} was started with ${key}=${value}${mapped.length > 0 ? ", which took effect" : ""}`,
    where: describeProgram(process),
    evidence: mapped.length > 0 ? `mapped: ${mapped.join(", ")}` : "none of it is mapped",
    expected: `no ${key}`,
    identity: `${identify(process)} ${key} ${value}`,
    severity: search && mapped.length > 0 ? "medium" : severity,
    pid: process.pid,
  });
  return mapped;
}

/** Without a slash it is searched for. */
function sameLibrary(path: string, named: string): boolean {
  return named.includes("/") ? path === named || baseName(path) === baseName(named) : baseName(path) === named;
}

function lookAtFile(context: CheckContext): void {
  const query = { columns: ["data"], where: [{ column: "path", values: [PRELOAD_FILE] }] };
  const text = context
    .rows(fileContents, query)
    .map(({ data }) => data ?? "")
    .join("")
    .replaceAll(/#.*/g, "");
  const libraries = text.split(/[\s:\0]+/).filter((name) => name !== "");
  if (libraries.length === 0) return;
  context.report({
    what: `${PRELOAD_FILE} has every program load ${libraries.join(", ")}`,
    where: PRELOAD_FILE,
    evidence: `its content: ${libraries.join(" ")}`,
    expected: "no such file, or an empty one",
    identity: libraries.join(" "),
    severity: libraries.every((name) => isInstalled(name) && !baseName(name).startsWith(".")) ? "medium" : "high",
  });
}
