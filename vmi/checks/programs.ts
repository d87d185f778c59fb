import { processes } from "../tables/processes.ts";
import type { CheckContext } from "./check.ts";

/** A process, by what it says that it is. */
export interface Program {
  readonly pid: number;
  readonly name: string;
  /** Of its executable; undefined for a thread of the kernel, and for a process that is ending. */
  readonly path: string | undefined;
  readonly commandLine: string | undefined;
  readonly parent: number;
  readonly kernelThread: boolean;
}

/** Every process by its id: for CheckContext.shared. */
export function programs(context: CheckContext): ReadonlyMap<number, Program> {
  const columns = ["pid", "name", "path", "cmdline", "parent", "kernel_thread"];
  const found = new Map<number, Program>();
  for (const row of context.rows(processes, { columns })) {
    const pid = row.pid as number;
    found.set(pid, {
      pid,
      name: String(row.name ?? ""),
      path: row.path as string | undefined,
      commandLine: row.cmdline as string | undefined,
      parent: (row.parent as number | undefined) ?? 0,
      kernelThread: row.kernel_thread === 1,
    });
  }
  return found;
}

/** `process 391 (sshd, /usr/sbin/sshd)`, with the path where it tells more than the name. */
export function describeProgram({ pid, name, path }: Pick<Program, "pid" | "name" | "path">): string {
  return path === undefined || baseName(path) === name
    ? `process ${pid} (${name})`
    : `process ${pid} (${name}, ${path})`;
}

/** What tells a program from others in an identity: not its pid, which is another after a restart. */
export function identify({ name, path }: Pick<Program, "name" | "path">): string {
  return path === undefined ? name : `${name} ${path}`;
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Directories that packages install to, and only root writes to. */
const INSTALLED = /^\/(usr|bin|sbin|lib|lib32|lib64|libx32|opt|snap|nix|gnu)\//;
/** Directories of programs that come with the system: of its own path, and of packages. */
const PROGRAMS = /^\/(?:usr\/(?:local\/)?)?(?:s?bin|(?:lib|lib64|libexec)(?:\/[^/]+){0,2})\/[^/]+$/;
/** Where everybody may write, and what is in no directory. */
const SCRATCH = /^\/(tmp|var\/tmp|dev|run\/user|run\/shm|run\/lock|memfd:)/;

export function isInstalled(path: string): boolean {
  return INSTALLED.test(path);
}

/**
 * True where a system has its programs, as the process's own mount namespace has it: whoever only calls a file /opt/x/ping or
 * /usr/share/x/ping has made no ping of it.
 */
export function isSystemProgram(path: string): boolean {
  return PROGRAMS.test(path);
}

export function isScratch(path: string): boolean {
  return SCRATCH.test(path);
}
