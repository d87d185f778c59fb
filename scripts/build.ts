// Builds what is started often, so that it starts fast: node scripts/build.ts
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { build } from "esbuild";

const root = resolve(import.meta.dirname, "..");

/** Bundles a program into one minified CommonJS file; what has a native part stays outside. */
export async function bundle(entry: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [resolve(root, entry)],
    outfile: resolve(root, outfile),
    bundle: true,
    minify: true,
    platform: "node",
    target: "node24",
    format: "cjs",
    external: ["koffi", "@litko/yara-x"],
    logLevel: "warning",
  });
}

/**
 * Bundles the command line into dist/cli: a short command loads few files. What runs for long and comes with files and
 * threads of its own, the agent, control and SQL, is loaded from its sources when a command needs it.
 */
export async function bundleCli(): Promise<void> {
  const folder = resolve(root, "dist/cli");
  const { outputFiles } = await build({
    entryPoints: [resolve(root, "cli/main.ts")],
    outdir: folder,
    write: false,
    bundle: true,
    splitting: true,
    minify: true,
    platform: "node",
    target: "node24",
    format: "esm",
    // It looks for its WebAssembly beside itself.
    external: ["capstone-wasm"],
    // Some packages are CommonJS and call require().
    banner: { js: 'import{createRequire as __r}from"node:module";const require=__r(import.meta.url);' },
    logLevel: "warning",
    plugins: [
      {
        name: "services-from-source",
        setup({ onResolve }) {
          onResolve({ filter: /\/(?:agent|control|sql)\/index\.ts$/ }, ({ path, importer }) =>
            path.startsWith("../../")
              ? { path, external: true }
              : // From dist/cli it would lead elsewhere, and bundled it would not find its files.
                { errors: [{ text: `${importer} loads ${path}: only files of cli/commands may load a service` }] },
          );
        },
      },
    ],
  });
  mkdirSync(folder, { recursive: true });
  for (const { path, contents } of outputFiles) writeFileSync(path, contents);
  // Chunks are named by their contents, so those of earlier builds would pile up.
  const current = new Set(outputFiles.map(({ path }) => basename(path)));
  for (const name of readdirSync(folder)) if (!current.has(name)) rmSync(join(folder, name));
}

/**
 * Keeps the compiled code of an inspector beside it, for its sandbox to read. Started without a guest it ends at once, with an
 * error; by then all has been compiled.
 */
function compile(name: string): void {
  const cache = resolve(root, `dist/${name}-cache`);
  rmSync(cache, { recursive: true, force: true });
  spawnSync(process.execPath, [resolve(root, `dist/${name}.cjs`)], {
    env: { NODE_COMPILE_CACHE: cache, NODE_COMPILE_CACHE_PORTABLE: "1" },
    stdio: "ignore",
  });
}

if (import.meta.main) {
  for (const name of ["inspector", "scanner"]) {
    await bundle(`agent/${name}/main.ts`, join("dist", `${name}.cjs`));
    compile(name);
  }
  await bundleCli();
}
