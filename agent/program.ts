/** Where the bundles of what runs in a sandbox are. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The inspector's bundle. @throws Error when it has not been built. */
export function inspectorProgram(): string {
  return find("inspector.cjs", "dist/inspector.cjs is missing: run `npm run build`");
}

/** The scanner's bundle. @throws Error when it has not been built. */
export function scannerProgram(): string {
  return find("scanner.cjs", "dist/scanner.cjs is missing: run `npm run build`");
}

/** Looks beside this program and above it, where the build puts it. */
function find(name: string, missing: string): string {
  const places = [import.meta.dirname, process.argv[1] && dirname(process.argv[1])];
  for (const place of places) {
    for (let folder = place; folder; folder = dirname(folder)) {
      for (const file of [join(folder, name), join(folder, "dist", name)]) {
        if (existsSync(file)) return file;
      }
      if (folder === dirname(folder)) break;
    }
  }
  throw new Error(missing);
}
