/** Who a QEMU process runs: names, sizes, and the process itself. */
import type { VcpuRegisters } from "../driver.ts";
import { peerPid } from "./native.ts";
import { type Qmp, QmpError } from "./qmp.ts";
import { parseRegisters } from "./registers.ts";

export interface QemuVm {
  /** As QEMU has it; all zero when none was given. */
  readonly uuid: string;
  /** Empty when none was given. */
  readonly name: string;
  /** QEMU's RunState: running, paused, shutdown, inmigrate, … */
  readonly status: string;
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** QEMU's name: x86_64, aarch64, … */
  readonly architecture: string;
  /** qemu-kvm or qemu-tcg. */
  readonly hypervisor: string;
}

/** @throws QmpError */
export async function queryVm(qmp: Qmp): Promise<QemuVm> {
  const [uuid, name, status, memory, cpus, target, kvm] = await Promise.all([
    qmp.execute("query-uuid"),
    qmp.execute("query-name"),
    qmp.execute("query-status"),
    qmp.execute("query-memory-size-summary"),
    qmp.execute("query-cpus-fast"),
    qmp.execute("query-target"),
    qmp.execute("query-kvm"),
  ]);
  return {
    uuid: text(uuid, "UUID"),
    name: text(name, "name"),
    status: text(status, "status"),
    memoryBytes: number(memory, "base-memory") + number(memory, "plugged-memory"),
    vcpus: Array.isArray(cpus) ? cpus.length : 0,
    architecture: text(target, "arch"),
    hypervisor: field(kvm, "enabled") === true ? "qemu-kvm" : "qemu-tcg",
  };
}

/** QEMU's RunState now. @throws QmpError */
export async function queryStatus(qmp: Qmp): Promise<string> {
  return text(await qmp.execute("query-status"), "status");
}

/** @throws QmpError */
export async function readRegisters(qmp: Qmp): Promise<VcpuRegisters[]> {
  return parseRegisters(await qmp.hmp("info registers -a"));
}

/** The process that serves this monitor. @throws QmpError */
export function monitorPid(qmp: Qmp): number {
  const pid = qmp.fd === undefined ? 0 : peerPid(qmp.fd);
  if (pid <= 0) {
    throw new QmpError("unreachable", `${qmp.path}: the process that serves this monitor is not visible from here`);
  }
  return pid;
}

function field(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

/** A hypervisor that its guest has taken over says what it likes: one VM's name must not be more than a list of all can carry. */
const MAX_TEXT = 255;

function text(value: unknown, key: string): string {
  const found = field(value, key);
  return typeof found === "string" ? found.slice(0, MAX_TEXT) : "";
}

function number(value: unknown, key: string): number {
  const found = field(value, key);
  return typeof found === "number" && Number.isSafeInteger(found) && found >= 0 ? found : 0;
}
