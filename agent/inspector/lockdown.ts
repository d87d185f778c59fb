/** The last step before an inspector looks at guest memory: giving up every right that reading it does not need. */
import koffi from "koffi";
import type { GuestMemoryLayout } from "../../vmi/index.ts";
import { buildEarlyFilter, buildFilter, type ReadableMemory } from "./filter.ts";

const F_SETFD = 2;
const PR_SET_DUMPABLE = 4;
const PR_SET_NO_NEW_PRIVS = 38;
const SYS_SECCOMP = 317;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;

/**
 * Becomes a user that owns nothing. Capabilities go with it, on every thread.
 * @throws Error when the identity can't be taken, or could be taken back.
 */
export function dropIdentity(id: number): void {
  process.setgroups!([]);
  process.setgid!(id);
  process.setuid!(id);
  if (process.getuid!() !== id || process.getgid!() !== id) throw new Error("the identity was not taken");
  let back = true;
  try {
    process.setuid!(0);
  } catch {
    back = false;
  }
  if (back) throw new Error("root could be had back");
}

/**
 * Applies no_new_privs and the seccomp filter to every thread of this process, for good.
 * @throws Error when the kernel refuses: the caller must not go on to guest memory.
 */
export function lockDown(layout: GuestMemoryLayout): void {
  control(PR_SET_DUMPABLE, 0, "core dumps can't be switched off");
  applyFilter(buildFilter(readableMemory(layout), process.pid));
}

/**
 * Applies the filter that whoever starts an inspector sets where it can, and begins this program anew under it.
 * @param descriptors how many it has inherited, from 0 on: Node has marked them to be closed.
 */
export function restartFiltered(descriptors: number, environment: Readonly<NodeJS.ProcessEnv>): never {
  applyFilter(buildEarlyFilter());
  const libc = koffi.load("libc.so.6");
  const fcntl = libc.func("fcntl", "int", ["int", "int", "int"]);
  const execve = libc.func("int execve(const char *path, const char **argv, const char **envp)");
  for (let fd = 0; fd < descriptors; fd++) fcntl(fd, F_SETFD, 0);
  const argv = [process.execPath, ...process.execArgv, ...process.argv.slice(1), null];
  execve(process.execPath, argv, [...Object.entries(environment).map(([name, value]) => `${name}=${value}`), null]);
  throw new Error(`the inspector can't be started anew (errno ${koffi.errno()})`);
}

/** A hypervisor's memory holds more than the guest's: of it only the guest's ranges may be read. */
function readableMemory(layout: GuestMemoryLayout): ReadableMemory[] {
  return layout.backings.map(({ kind, fd }, index) => {
    if (kind !== "process") return { fd };
    const ranges = layout.ranges
      .filter(({ backing }) => backing === index)
      .map(({ offset, length }) => ({ start: offset, end: offset + length }));
    return { fd, ranges };
  });
}

function control(option: number, value: number, problem: string): void {
  const prctl = koffi.load("libc.so.6").func("int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)");
  if (prctl(option, value, 0, 0, 0) !== 0) throw new Error(problem);
}

function applyFilter(filter: Buffer): void {
  control(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs was refused");
  const fprog = koffi.struct({ length: "uint16_t", filter: "void *" });
  const seccomp = koffi
    .load("libc.so.6")
    .func("syscall", "int64_t", ["int64_t", "int64_t", "int64_t", koffi.pointer(fprog)]);
  const program = { length: filter.length / 8, filter };
  const result: number = seccomp(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program);
  if (result !== 0) throw new Error(`the kernel refused the seccomp filter (${result}, errno ${koffi.errno()})`);
}
