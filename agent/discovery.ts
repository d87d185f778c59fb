/** Finds the QEMU processes of this host that have a monitor socket. */
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { parseCommandLine, readArguments, readStartTime, readWorkingDirectory } from "../vmi/driver/qemu/index.ts";
import type { Process } from "./monitor.ts";

export interface FoundProcess extends Process {
  /** Absolute paths, in the order of the command line. */
  readonly sockets: readonly string[];
}

/** QEMU's binaries, as distributions name them. */
const qemuName = /^(?:qemu-system-\w+|qemu-kvm|kvm)$/;

/** What can't be looked at, or ends meanwhile, is left out. */
export function findQemuProcesses(): FoundProcess[] {
  const found: FoundProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const argv = readArguments(pid);
      if (!qemuName.test(basename(argv[0] ?? ""))) continue;
      const { qmpSockets } = parseCommandLine(argv, readWorkingDirectory(pid));
      if (qmpSockets.length > 0) found.push({ pid, start: readStartTime(pid), sockets: qmpSockets });
    } catch {
      // Gone, or another user's.
    }
  }
  return found;
}
