// Builds what is started often, so that it starts fast: node scripts/build.ts
import { join, resolve } from "node:path";
import { build } from "esbuild";

const root = resolve(import.meta.dirname, "..");

/** Bundles a program into one minified CommonJS file; koffi stays outside: it has a native part. */
export async function bundle(entry: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [resolve(root, entry)],
    outfile: resolve(root, outfile),
    bundle: true,
    minify: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    external: ["koffi"],
    logLevel: "warning",
  });
}

if (import.meta.main) await bundle("agent/inspector/main.ts", join("dist", "inspector.cjs"));
