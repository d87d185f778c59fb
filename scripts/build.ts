// Builds what is started often, so that it starts fast: node scripts/build.ts
import { rmSync } from "node:fs";
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

/**
 * Bundles the command line into dist/cli: a short command loads few files. What runs for long and comes with files and
 * threads of its own, the agent and control, is loaded from its sources when a command needs it.
 */
export async function bundleCli(): Promise<void> {
  // Chunks are named by their contents: those of earlier builds would pile up.
  rmSync(resolve(root, "dist/cli"), { recursive: true, force: true });
  await build({
    entryPoints: [resolve(root, "cli/main.ts")],
    outdir: resolve(root, "dist/cli"),
    bundle: true,
    splitting: true,
    minify: true,
    platform: "node",
    target: "node24",
    format: "esm",
    // Some packages are CommonJS and call require().
    banner: { js: 'import{createRequire as __r}from"node:module";const require=__r(import.meta.url);' },
    logLevel: "warning",
    plugins: [
      {
        name: "services-from-source",
        setup({ onResolve }) {
          onResolve({ filter: /^\.\.\/\.\.\/(?:agent|control)\/index\.ts$/ }, ({ path }) => ({ path, external: true }));
        },
      },
    ],
  });
}

if (import.meta.main) {
  await bundle("agent/inspector/main.ts", join("dist", "inspector.cjs"));
  await bundleCli();
}
