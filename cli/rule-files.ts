import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { usageError } from "./failure.ts";

/** YARA rules as a scan takes them: one file, or every *.yar and *.yara of a folder and those below it, by name. */
export async function readRules(path: string): Promise<{ name: string; source: string }[]> {
  const isFolder = (await stat(path)).isDirectory();
  if (!isFolder) return [await readRule(path, basename(path))];
  const names = (await readdir(path, { recursive: true })).filter((name) => /\.yara?$/i.test(name)).sort();
  if (names.length === 0) throw usageError(`${path}: there is no *.yar or *.yara file in it`);
  return Promise.all(names.map((name) => readRule(join(path, name), name)));
}

async function readRule(path: string, name: string): Promise<{ name: string; source: string }> {
  const bytes = await readFile(path);
  try {
    return { name, source: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (error) {
    // Another encoding's letters would silently become patterns that match nothing.
    throw usageError(`${path} is not UTF-8: convert it, for example with iconv`, error);
  }
}
