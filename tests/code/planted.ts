// A small tree with the project's own lint configuration, in which tests plant violations: never in the project's tree.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

export const root = resolve(import.meta.dirname, "../..");

export interface Finding {
  filename: string;
  /** The rule, as "plugin(rule)". */
  code: string;
  message: string;
}

/** What oxlint, configured as in this project, says of a tree of these files and nothing else. */
export function lintPlanted(files: Readonly<Record<string, string>>): Finding[] {
  const tree = mkdtempSync(join(tmpdir(), "cloudvmi-planted-"));
  try {
    for (const name of [".oxlintrc.json", "tsconfig.json", "package.json", "scripts/lint"])
      cpSync(join(root, name), join(tree, name), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(tree, "node_modules"));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(tree, name)), { recursive: true });
      writeFileSync(join(tree, name), text);
    }
    const linter = join(root, "node_modules/oxlint/bin/oxlint");
    const { stdout, stderr } = spawnSync(process.execPath, [linter, "--format=json"], { cwd: tree, encoding: "utf8" });
    if (!stdout.startsWith("{")) throw new Error(`oxlint gave no report: ${stdout}${stderr}`);
    return JSON.parse(stdout).diagnostics;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}
