/** Where the inspector's bundle is. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** Looks beside this program and above it, where the build puts it. @throws Error when it has not been built. */
export function inspectorProgram(): string {
  const places = [import.meta.dirname, process.argv[1] && dirname(process.argv[1])];
  for (const place of places) {
    for (let folder = place; folder; folder = dirname(folder)) {
      for (const file of [join(folder, "inspector.cjs"), join(folder, "dist", "inspector.cjs")]) {
        if (existsSync(file)) return file;
      }
      if (folder === dirname(folder)) break;
    }
  }
  throw new Error("dist/inspector.cjs is missing: run `npm run build`");
}
