/** One guest, asked without a service: the same inspector in the same sandbox. */
import { realpathSync } from "node:fs";
import { basename } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService, type VmId } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { openImage } from "../vmi/driver/image/index.ts";
import {
  findRamWithoutMonitor,
  parseCommandLine,
  QmpError,
  RamError,
  readArguments,
  readStartTime,
  readWorkingDirectory,
} from "../vmi/driver/qemu/index.ts";
import { connectedPair, createRoutes, createWireTransport, serveWire, type WireTransport } from "../wire/index.ts";
import { guestService } from "./guest-service.ts";
import { incarnationOf, uuid5 } from "./identity.ts";
import { createInspection, type OpenedMemory } from "./inspection.ts";
import type { Process } from "./monitor.ts";
import { noProfileStore, openProfileStores } from "./profiles.ts";
import { inspectorProgram, scannerProgram } from "./program.ts";
import { type Layer, probeSandbox } from "./sandbox/layers.ts";
import { createScans } from "./scans.ts";
import { typeFiles } from "./type-files.ts";
import { type HostVm, openVm, type VmEnvironment } from "./vm.ts";

/** A monitor socket, a QEMU process, or a raw memory image. */
export type LocalTarget = { readonly qmp: string } | { readonly pid: number } | { readonly memory: string };

export interface LocalOptions {
  /** Layers of the sandbox that may be missing. */
  readonly allowMissing?: readonly Layer[];
  /** A folder for kernel profiles; without it every kernel is unknown. */
  readonly profiles?: string;
  /** A file with the types of the kernel (BTF or ISF), in place of its own, and with symbols (ISF) where it has none. */
  readonly types?: string | undefined;
  /** A file with the image of the kernel as it is installed (vmlinuz), which its text is compared with. */
  readonly kernelImage?: string | undefined;
  readonly log?: (line: string) => void;
}

export interface LocalGuest {
  readonly transport: WireTransport;
  readonly vm: { readonly uuid: string; readonly incarnation: string };
  /** Layers of the sandbox that are missing, one line each. */
  readonly warnings: readonly string[];
  close(): Promise<void>;
}

/**
 * Opens a guest of this machine, or a memory image. Nothing of it has been read when this returns; closing ends every
 * pause and the inspector.
 * @throws QmpError, RamError, ImageError, SandboxError, ConnectError: one line each.
 */
export async function openLocal(target: LocalTarget, options: LocalOptions = {}): Promise<LocalGuest> {
  const log = options.log ?? (() => {});
  const program = inspectorProgram();
  const sandbox = await probeSandbox(program, options.allowMissing ?? []);
  const profiles = options.profiles === undefined ? noProfileStore : openProfileStores(options.profiles, log);
  const types = () => typeFiles(options.types, undefined, options.kernelImage);
  // For an agent's VM it is a note of the check that needs it; whoever names one for this guest is told at once.
  if (options.kernelImage !== undefined) await types().kernelImage("");
  const scanner = scannerProgram();
  const environment = {
    host: "local",
    sandbox,
    program,
    scanner,
    profiles,
    pauses: undefined,
    entries: [],
    types,
    log,
  };
  const vm = await openTarget(target, environment);
  const find = (id: VmId | undefined) => {
    if (id?.uuid && id.uuid !== vm.id.uuid) throw new ConnectError("there is no such VM here", Code.NotFound);
    return vm;
  };
  const [ours, theirs] = connectedPair();
  const routes = createRoutes<undefined>().add(GuestService, guestService<undefined>(find));
  const connection = serveWire(ours, routes, {
    authenticate: () => undefined,
    onError: (error, where) => log(`${where}: ${String(error)}`),
  });
  const transport = createWireTransport({ connect: () => theirs, client: "local" });
  return {
    transport,
    vm: vm.id,
    warnings: sandbox.warnings,
    async close() {
      await transport.close();
      connection.close();
      await vm.close();
    },
  };
}

async function openTarget(target: LocalTarget, environment: VmEnvironment): Promise<HostVm> {
  if ("qmp" in target) return openByMonitor(target.qmp, undefined, environment);
  if ("memory" in target)
    return openWithoutMonitor(
      `file ${realpathOf(target.memory)}`,
      "image",
      async () => openImage(target.memory),
      environment,
    );
  const { pid } = target;
  const { sockets, process } = lookAt(pid);
  for (const socket of sockets) {
    try {
      return await openByMonitor(socket, process, environment);
    } catch (error) {
      // A monitor that another client holds: the memory can be found without it.
      if (!(error instanceof QmpError)) throw error;
    }
  }
  return openWithoutMonitor(`process ${pid}`, incarnationOf(process), () => findRamWithoutMonitor(pid), environment);
}

function openByMonitor(socket: string, process: Process | undefined, environment: VmEnvironment): Promise<HostVm> {
  return openVm(socket, process, environment, { changed: () => {}, gone: () => {} });
}

/** Memory alone: no registers, no pause. */
async function openWithoutMonitor(
  place: string,
  incarnation: string,
  openMemory: () => Promise<OpenedMemory>,
  environment: VmEnvironment,
): Promise<HostVm> {
  // What can't be opened at all is told at once, not at the first question.
  (await openMemory())[Symbol.dispose]();
  const id = { uuid: uuid5(noNamespace, place), incarnation };
  const profiles = environment.profiles(`VM ${id.uuid}`);
  const own = { vm: id, openRam: openMemory, registers: async () => [] };
  const source = { ...environment, ...own, profiles, types: environment.types(undefined) };
  const inspection = createInspection(source);
  const scans = createScans({ ...source, program: environment.scanner });
  const close = async () => {
    inspection.close();
    scans.close();
  };
  return { id, inspection, scans, openMemory, close };
}

const noNamespace = "00000000-0000-0000-0000-000000000000";

function lookAt(pid: number): { sockets: readonly string[]; process: Process } {
  try {
    const argv = readArguments(pid);
    // A QEMU by another name has its usual options all the same.
    if (!/qemu|kvm/i.test(basename(argv[0] ?? "")) && !argv.some((word) => /^--?(?:qmp|machine|M|m)$/.test(word))) {
      throw new ConnectError(
        `process ${pid} (${argv[0] ?? "of the kernel"}) is not QEMU: give the process id of a qemu-system process`,
        Code.InvalidArgument,
      );
    }
    const { qmpSockets } = parseCommandLine(argv, readWorkingDirectory(pid));
    return { sockets: qmpSockets, process: { pid, start: readStartTime(pid) } };
  } catch (error) {
    if (error instanceof ConnectError) throw error;
    const code: unknown = Reflect.get(Object(error), "code");
    if (code === "ENOENT" || code === "ESRCH") throw new ConnectError(`there is no process ${pid}`, Code.NotFound);
    throw new RamError(`process ${pid} may not be looked at by this user: run as the user of the VM or as root`);
  }
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
