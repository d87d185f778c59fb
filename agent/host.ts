/** The VMs of this host as they come and go. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { WatchVmsResponseSchema } from "../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import type { VmId } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { findQemuProcesses } from "./discovery.ts";
import type { Process } from "./monitor.ts";
import { openVm, type QemuHostVm, type VmEnvironment } from "./vm.ts";

type Change = MessageInitShape<typeof WatchVmsResponseSchema>;

export interface Host {
  /** The VM that a request names. @throws ConnectError InvalidArgument, NotFound, Aborted */
  find(id: VmId | undefined): QemuHostVm;
  /** First every VM, then each change, until the signal. */
  watch(signal: AbortSignal): AsyncGenerator<Change>;
  close(): Promise<void>;
}

const scanMs = 1000;
/** Waits after a monitor could not be used, by attempts in a row. */
const backoffMs = [1000, 2000, 5000, 15_000] as const;
/** How long the first listing waits for monitors that don't answer. */
const firstScanMs = 1500;

interface Candidate {
  readonly key: string;
  readonly sockets: readonly string[];
  readonly process: Process | undefined;
}

export function watchHost(environment: VmEnvironment & { readonly processes: boolean }): Host {
  const vms = new Map<string, QemuHostVm>();
  const watchers = new Set<(uuid: string, incarnation: string) => void>();
  const failures = new Map<string, { attempts: number; until: number; said: string }>();
  const connecting = new Set<string>();
  const { promise: synced, resolve: settleFirst } = Promise.withResolvers<void>();
  let closed = false;

  function notify(vm: QemuHostVm): void {
    for (const watcher of watchers) watcher(vm.id.uuid, vm.id.incarnation);
  }

  function candidates(): Candidate[] {
    const processes = environment.processes ? findQemuProcesses() : [];
    const found: Candidate[] = processes.map((process) => ({
      key: `${process.pid} ${process.start}`,
      sockets: process.sockets,
      process,
    }));
    const covered = new Set(processes.flatMap(({ sockets }) => sockets));
    for (const { qmp } of environment.entries) {
      if (qmp !== undefined && !covered.has(qmp)) found.push({ key: qmp, sockets: [qmp], process: undefined });
    }
    return found;
  }

  function isHeld({ sockets, process }: Candidate): boolean {
    return [...vms.values()].some(
      (vm) => sockets.includes(vm.path) || (process?.pid === vm.process.pid && process.start === vm.process.start),
    );
  }

  async function scan(): Promise<void> {
    const all = candidates();
    for (const key of failures.keys()) if (!all.some((candidate) => candidate.key === key)) failures.delete(key);
    const now = performance.now();
    const free = all.filter(
      (candidate) =>
        !connecting.has(candidate.key) && !isHeld(candidate) && (failures.get(candidate.key)?.until ?? 0) <= now,
    );
    await Promise.all(free.map(connect));
  }

  async function connect(candidate: Candidate): Promise<void> {
    const { key, sockets, process } = candidate;
    connecting.add(key);
    try {
      await openFirst(sockets, process);
      failures.delete(key);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      const before = failures.get(key);
      const attempts = (before?.attempts ?? 0) + 1;
      const wait = backoffMs[Math.min(attempts, backoffMs.length) - 1]!;
      failures.set(key, { attempts, until: performance.now() + wait, said: text });
      if (before?.said !== text && !closed) environment.log(`a VM can't be opened, trying again: ${text}`);
    } finally {
      connecting.delete(key);
    }
  }

  /** Opens a VM by the first of its sockets that is free. */
  async function openFirst(sockets: readonly string[], process: Process | undefined): Promise<void> {
    let problem: unknown;
    for (const socket of sockets) {
      try {
        return await open(socket, process);
      } catch (error) {
        problem ??= error;
      }
    }
    throw problem;
  }

  async function open(socket: string, process: Process | undefined): Promise<void> {
    let opened: QemuHostVm | undefined;
    let ended = false;
    const vm = await openVm(socket, process, environment, {
      changed: () => opened && notify(opened),
      gone: () => {
        ended = true;
        if (opened) remove(opened);
      },
    });
    const other = vms.get(vm.id.uuid);
    if (closed || ended || other) {
      await vm.close();
      if (other) throw new Error(`${socket}: another VM with the UUID ${vm.id.uuid} runs on this host (${other.path})`);
      return;
    }
    opened = vm;
    vms.set(vm.id.uuid, vm);
    notify(vm);
  }

  function remove(vm: QemuHostVm): void {
    if (vms.get(vm.id.uuid) !== vm) return;
    vms.delete(vm.id.uuid);
    notify(vm);
    void vm.close();
    // Its UUID is free: another run of the same VM may be waiting.
    scan().catch(() => {});
  }

  const loop = async () => {
    for (;;) {
      const scanned = scan().catch((error: unknown) => environment.log(`looking for VMs failed: ${String(error)}`));
      // A monitor that hangs must not keep the others from being found.
      await Promise.race([scanned, pause(firstScanMs)]);
      settleFirst();
      await pause(scanMs);
      if (closed) return;
    }
  };
  void loop();

  return {
    find(id) {
      if (!id?.uuid || !id.incarnation) {
        throw new ConnectError("an agent is asked by UUID and incarnation of a VM", Code.InvalidArgument);
      }
      const vm = vms.get(id.uuid);
      if (!vm) throw new ConnectError("this host does not run the VM", Code.NotFound);
      if (vm.id.incarnation !== id.incarnation) {
        throw new ConnectError("the VM has been restarted since; list the VMs again", Code.Aborted);
      }
      return vm;
    },
    async *watch(signal) {
      await synced;
      const dirty = new Map<string, Set<string>>();
      let wake = Promise.withResolvers<void>();
      const watcher = (uuid: string, incarnation: string) => {
        const incarnations = dirty.get(uuid) ?? new Set();
        dirty.set(uuid, incarnations.add(incarnation));
        wake.resolve();
      };
      const stop = () => wake.resolve();
      watchers.add(watcher);
      signal.addEventListener("abort", stop);
      try {
        yield { present: [...vms.values()].map((vm) => vm.describe()), synced: true };
        while (!signal.aborted && !closed) {
          await wake.promise;
          wake = Promise.withResolvers();
          if (dirty.size === 0) continue;
          const changes = [...dirty];
          dirty.clear();
          const present = changes.flatMap(([uuid]) => vms.get(uuid)?.describe() ?? []);
          const gone = changes.flatMap(([uuid, incarnations]) =>
            [...incarnations]
              .filter((incarnation) => vms.get(uuid)?.id.incarnation !== incarnation)
              .map((incarnation) => ({ uuid, incarnation })),
          );
          yield { present, gone };
        }
      } finally {
        watchers.delete(watcher);
        signal.removeEventListener("abort", stop);
      }
    },
    async close() {
      closed = true;
      const open = [...vms.values()];
      vms.clear();
      for (const vm of open) notify(vm);
      await Promise.all(open.map((vm) => vm.close()));
    },
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
