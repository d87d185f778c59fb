/** Which layers of the sandbox this host has, and which of the missing ones its operator does without. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { seccompKnown } from "../inspector/filter.ts";
import { bubblewrapArguments, installed } from "./bubblewrap.ts";

/**
 * namespaces: no network, no files, no other processes (bubblewrap);
 * uid: an identity that owns nothing (nobody as root, a user namespace otherwise);
 * seccomp: no system call but the few that reading needs.
 */
export const layerNames = ["namespaces", "uid", "seccomp"] as const;
export type Layer = (typeof layerNames)[number];

export interface Sandbox extends Readonly<Record<Layer, boolean>> {
  /** One line for every layer that this host does without. */
  readonly warnings: readonly string[];
}

/** A layer is missing and the operator has not allowed that. The message is one line. */
export class SandboxError extends Error {
  override readonly name = "SandboxError";
}

/** @throws SandboxError when a layer is missing that `allowMissing` does not name. */
export async function probeSandbox(program: string, allowMissing: readonly Layer[]): Promise<Sandbox> {
  const problem: Record<Layer, string | undefined> = {
    namespaces: await namespaceProblem(program),
    uid: undefined,
    seccomp: seccompProblem(),
  };
  if (process.getuid?.() !== 0 && problem.namespaces) problem.uid = "needs root, or user namespaces by bubblewrap";
  const warnings: string[] = [];
  for (const layer of layerNames) {
    const text = problem[layer];
    if (text === undefined) continue;
    if (!allowMissing.includes(layer)) {
      throw new SandboxError(
        `inspectors can't be isolated by "${layer}": ${text}; or name it in sandbox.allow_missing to run without`,
      );
    }
    warnings.push(`inspectors run without "${layer}": ${text}`);
  }
  return { namespaces: !problem.namespaces, uid: !problem.uid, seccomp: !problem.seccomp, warnings };
}

async function namespaceProblem(program: string): Promise<string | undefined> {
  if (!installed("bwrap")) return "bubblewrap is not installed (Debian: apt-get install bubblewrap)";
  const args = bubblewrapArguments(program, {}, undefined);
  // The same walls around a program that ends at once.
  const probe = [...args.slice(0, args.indexOf("--")), "--", "/node", "--version"];
  try {
    await promisify(execFile)("bwrap", probe, { timeout: 20_000 });
    return undefined;
  } catch (error) {
    const stderr: unknown = Reflect.get(Object(error), "stderr");
    const reason = typeof stderr === "string" && stderr.trim() !== "" ? stderr.trim().split("\n")[0] : String(error);
    return `bubblewrap fails here (${reason})`;
  }
}

function seccompProblem(): string | undefined {
  if (!seccompKnown) return `no filter for ${process.platform} on ${process.arch} yet`;
  if (!existsSync("/proc/sys/kernel/seccomp/actions_avail")) return "this kernel has no seccomp filters";
  return undefined;
}
