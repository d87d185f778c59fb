import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cached, cacheFolder } from "./cache.ts";
import type { CpioEntry } from "./cpio.ts";
import { unpackHeaders } from "./headers.ts";
import { run } from "./run.ts";

const sourceFolder = join(import.meta.dirname, "../tricks/module");
const programsFolder = join(import.meta.dirname, "../guest/tricks");

/** The module of the tricks for one kernel, in the cache under its release and its source's hash. */
export async function buildModule(
  release: string,
  ensureCompilers: () => Promise<void>,
  progress: (line: string) => void,
): Promise<string> {
  const hash = createHash("sha256");
  for (const name of readdirSync(sourceFolder).sort()) {
    hash.update(`${name}\0`).update(readFileSync(join(sourceFolder, name)));
  }
  const key = `${release}-${hash.digest("hex").slice(0, 16)}`;
  return cached(join(cacheFolder(), "tricks", `${key}.ko`), async (temporary) => {
    await ensureCompilers();
    const headers = await unpackHeaders(release, progress);
    progress(`building the module of the tricks for ${release}`);
    const work = mkdtempSync(join(tmpdir(), "cloudvmi-module-"));
    try {
      cpSync(sourceFolder, work, { recursive: true });
      // Debian's kernels are built with it; another release of gcc does where it is not to be had.
      const compiler = spawnSync("gcc-12", ["--version"]).status === 0 ? "gcc-12" : "gcc";
      // Debug information would only make it larger, and types of its own need a program that hosts lack.
      const settings = [`CC=${compiler}`, "CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES="];
      await run("make", ["--silent", "-C", headers, `M=${work}`, ...settings, "modules"]);
      copyFileSync(join(work, "lab_tricks.ko"), temporary);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

/** What an initramfs gets for the tricks. */
export function trickEntries(module: string): CpioEntry[] {
  const entries: CpioEntry[] = [{ kind: "directory", path: "lab/tricks" }];
  entries.push({ kind: "file", path: "lab/tricks/lab_tricks.ko", data: readFileSync(module) });
  for (const name of readdirSync(programsFolder).sort()) {
    if (!name.endsWith(".py")) continue;
    entries.push({ kind: "file", path: `lab/tricks/${name}`, data: readFileSync(join(programsFolder, name)) });
  }
  return entries;
}
