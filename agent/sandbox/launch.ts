/** Starts a program in a process of its own that has nothing but what it is given. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex, Writable } from "node:stream";
import { buildEarlyFilter } from "../inspector/filter.ts";
import { bubblewrapArguments, flagsOf, nobody } from "./bubblewrap.ts";
import type { Sandbox } from "./layers.ts";

export interface Launched {
  readonly child: ChildProcess;
  /** The inspector's descriptor 3. */
  readonly wire: Duplex;
}

export interface LaunchOptions {
  readonly sandbox: Sandbox;
  /** The bundle to run. */
  readonly program: string;
  /** Given to the program on its standard input. */
  readonly input: string;
  /** Descriptors that the program inherits, as 4, 5, … */
  readonly descriptors: readonly number[];
  /** Further environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * Larger pieces than the first are given back at once. Left alone, glibc raises that limit to the largest piece that it was
 * ever given back, and keeps what comes below: an inspector that once copied a kernel's text would keep as much.
 */
const allocation = { MALLOC_MMAP_THRESHOLD_: String(1 << 20), MALLOC_TRIM_THRESHOLD_: String(4 << 20) };

export function launch({ sandbox, program, input, descriptors, environment }: LaunchOptions): Launched {
  const filterFd = 4 + descriptors.length;
  const count = String(4 + descriptors.length);
  const variables: Record<string, string> = { ...environment, ...allocation, CLOUDVMI_DESCRIPTORS: count };
  if (sandbox.seccomp) variables.CLOUDVMI_SECCOMP = sandbox.namespaces ? "on" : "late";
  if (sandbox.uid && process.getuid?.() === 0) variables.CLOUDVMI_UID = String(nobody);
  const [command, args, env] = sandbox.namespaces
    ? ["bwrap", bubblewrapArguments(program, variables, sandbox.seccomp ? filterFd : undefined), process.env]
    : [process.execPath, [...flagsOf(program), program], variables];
  const child = spawn(command, args, {
    cwd: "/",
    env,
    stdio: ["pipe", "ignore", "pipe", "pipe", ...descriptors, "pipe"],
  });
  const wire = child.stdio[3] as Duplex;
  // What breaks the pipes is the end of the process, which is reported once, by "exit".
  for (const stream of child.stdio) stream?.on("error", () => {});
  (child.stdin as Writable).end(input);
  (child.stdio[filterFd] as Writable).end(buildEarlyFilter());
  return { child, wire };
}
