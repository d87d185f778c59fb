import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Folder of everything the lab downloads and builds; outside the repository, safe to delete. */
export function cacheFolder(): string {
  const { CLOUDVMI_CACHE, XDG_CACHE_HOME } = process.env;
  const base = CLOUDVMI_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "cloudvmi");
  const folder = join(base, "lab");
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Makes a file or folder of the cache whole or not at all: `make` fills a path beside it, which then takes its name.
 * @returns the path, made now or found.
 */
export async function cached(path: string, make: (temporary: string) => Promise<void> | void): Promise<string> {
  if (existsSync(path)) return path;
  const temporary = `${path}.${randomUUID()}.tmp`;
  mkdirSync(dirname(path), { recursive: true });
  try {
    await make(temporary);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return path;
}

/**
 * Runs `work` while holding the cache's lock against other processes.
 * The lock is flock(1)'s, so the system releases it when its holder dies.
 */
export async function locked<T>(name: string, waiting: () => void, work: () => Promise<T>): Promise<T> {
  const holder = spawn("flock", [join(cacheFolder(), `${name}.lock`), "sh", "-c", "echo held; cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const patience = setTimeout(waiting, 1000);
  try {
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once("data", () => resolve());
      holder.once("error", reject);
      holder.once("exit", (code) => reject(new Error(`flock ended with status ${code} before it held the lock`)));
    });
    clearTimeout(patience);
    return await work();
  } finally {
    clearTimeout(patience);
    holder.stdin.end();
  }
}
