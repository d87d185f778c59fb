/** A running VM of this host: its identity, its status, and everything that can be asked of it. */
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Vcpu, VcpuSchema } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type VmSchema, VmStatus } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
import { findRam, queryStatus, queryVm, RamError, readRegisters } from "../vmi/driver/qemu/index.ts";
import { coalesced } from "./coalesced.ts";
import type { VmEntry } from "./config.ts";
import { incarnationOf, vmUuid } from "./identity.ts";
import { createInspection, type Inspection, type OpenedMemory } from "./inspection.ts";
import { createLeases, type Leases } from "./leases.ts";
import { type Monitor, openMonitor, type Process } from "./monitor.ts";
import type { ProfileStore } from "./profiles.ts";
import type { Sandbox } from "./sandbox/layers.ts";
import { createScans, type Scans } from "./scans.ts";
import type { TypeFiles } from "./type-files.ts";

export interface VmEnvironment {
  /** Name of this host. */
  readonly host: string;
  readonly sandbox: Sandbox;
  /** The bundles of the inspector and of the scanner. */
  readonly program: string;
  readonly scanner: string;
  /** Of an owner, by a name of its own. */
  readonly profiles: (owner: string) => ProfileStore;
  /** Folder for the notes of pauses; undefined where nothing outlives the program. */
  readonly pauses: string | undefined;
  readonly entries: readonly VmEntry[];
  /** Types that are supplied for a VM, given the file that its entry names. */
  readonly types: (file: string | undefined) => TypeFiles;
  readonly log: (line: string) => void;
}

/** A VM, or a memory image, that can be asked. */
export interface HostVm {
  readonly id: { readonly uuid: string; readonly incarnation: string };
  readonly inspection: Inspection;
  readonly scans: Scans;
  /** Opens the memory to be streamed. @throws ConnectError */
  openMemory(): Promise<OpenedMemory>;
  /** Absent without a monitor. @throws ConnectError */
  readonly registers?: () => Promise<Vcpu[]>;
  readonly leases?: Leases;
  close(): Promise<void>;
}

export interface QemuHostVm extends HostVm {
  readonly process: Process;
  readonly path: string;
  describe(): MessageInitShape<typeof VmSchema>;
}

export interface VmEvents {
  changed(): void;
  gone(): void;
}

/** Events after which RAM may lie elsewhere, or another kernel may run in it. */
const restarting = new Set(["RESET", "MEMORY_DEVICE_SIZE_CHANGE", "DEVICE_DELETED", "ACPI_DEVICE_OST"]);

/** Opens the VM behind a monitor. @throws QmpError, ConnectError */
export async function openVm(
  path: string,
  expected: Process | undefined,
  environment: VmEnvironment,
  events: VmEvents,
): Promise<QemuHostVm> {
  // Set once all is known; what the monitor tells before then is asked for anyway.
  let vm: { restart(): void; refresh(): Promise<void> } | undefined;
  const monitor = await openMonitor(path, expected, {
    event({ event }) {
      if (restarting.has(event)) vm?.restart();
      vm?.refresh().catch(() => {});
    },
    reconnected() {
      // A reset may have gone by unseen.
      vm?.restart();
      vm?.refresh().catch(() => {});
    },
    gone: events.gone,
  });
  try {
    const opened = await describeVm(monitor, environment, events);
    vm = opened;
    // What happened since it was first asked, and was not listened to.
    await opened.refresh();
    return opened;
  } catch (error) {
    monitor.close();
    throw error;
  }
}

async function describeVm(
  monitor: Monitor,
  environment: VmEnvironment,
  events: VmEvents,
): Promise<QemuHostVm & { restart(): void; refresh(): Promise<void> }> {
  const { process, path } = monitor;
  const facts = await monitor.use(queryVm);
  const id = { uuid: vmUuid(facts.uuid, path), incarnation: incarnationOf(process) };
  const entry = environment.entries.find(
    (item) => item.uuid === id.uuid || item.qmp === path || (item.name !== undefined && item.name === facts.name),
  );
  let status = statusOf(facts.status);
  const openRam = (hint: boolean) => monitor.use((qmp) => findRam(qmp, process.pid, hint)).catch(unreadable);
  const registers = () => monitor.use(readRegisters);
  // A VM whose project the agent isn't told shares with none.
  const profiles = environment.profiles(entry?.project ? `project ${entry.project}` : `VM ${id.uuid}`);
  const types = environment.types(entry?.types);
  const openHinted = () => openRam(true);
  const source = { ...environment, profiles, types, vm: id, openRam: openHinted, registers };
  const inspection = createInspection(source);
  const scans = createScans({ ...source, program: environment.scanner });
  const note = environment.pauses === undefined ? undefined : join(environment.pauses, id.incarnation);
  const leases = createLeases(
    {
      status: () => monitor.use(queryStatus),
      stop: () => monitor.use(async (qmp) => void (await qmp.execute("stop"))),
      cont: () => monitor.use(async (qmp) => void (await qmp.execute("cont"))),
    },
    note,
    (line) => environment.log(`VM ${id.uuid}: ${line}`),
  );
  await leases.recover();
  return {
    id,
    process,
    path,
    inspection,
    scans,
    openMemory: () => openRam(false),
    leases,
    registers: async () => (await registers()).map((vcpu) => create(VcpuSchema, vcpu)),
    describe: () => ({
      id,
      name: facts.name || id.uuid,
      project: entry?.project ?? "",
      host: environment.host,
      status,
      memoryBytes: BigInt(facts.memoryBytes),
      vcpus: facts.vcpus,
      architecture: facts.architecture,
      labels: { ...entry?.labels },
      hypervisor: facts.hypervisor,
    }),
    restart() {
      inspection.restart();
      scans.restart();
    },
    // Events come as fast as QEMU likes.
    refresh: coalesced(async () => {
      const now = statusOf(await monitor.use(queryStatus));
      if (now === status) return;
      status = now;
      events.changed();
    }),
    async close() {
      inspection.close();
      scans.close();
      await leases.close();
      monitor.close();
    },
  };
}

/** Source: RunState in qapi/run-state.json of QEMU. */
function statusOf(runState: string): VmStatus {
  if (runState === "running") return VmStatus.RUNNING;
  if (runState === "shutdown") return VmStatus.SHUT_DOWN;
  return VmStatus.PAUSED;
}

function unreadable(error: unknown): never {
  throw error instanceof RamError ? new ConnectError(error.message, Code.FailedPrecondition) : error;
}
