/** GuestService for VMs that this process holds: questions go to the VM's inspector, the rest is done here. */
import { type DescMessage, type DescMethodUnary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService, type ScanRequest, type VmId } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanTarget } from "../proto/gen/cloudvmi/v1/scan_pb.ts";
import { type CallContext, Encoded, type Implementation } from "../wire/index.ts";
import { tableSpecs } from "./inspector/catalogue.ts";
import type { Call } from "./inspector-process.ts";
import { defaultLeaseSeconds, maxLeaseSeconds } from "./leases.ts";
import { isPhysicalAlone, readPhysical } from "./read-physical.ts";
import { streamMemory } from "./stream-memory.ts";
import type { HostVm } from "./vm.ts";

/** What a question may take where the caller doesn't say, and at most. */
const defaultMs = 10_000;
const maxMs = 60_000;
/** What a scan may take where the caller doesn't say, and until it has told how far it came. */
const defaultScanMs = 60_000;
const scanGraceMs = 5000;
/** Rules that look at one piece of memory for longer than this are taken to go on forever. */
const maxSilenceMs = 20_000;

/** @param find the VM that a request names. @throws ConnectError */
export function guestService<P>(find: (id: VmId | undefined) => HostVm): Implementation<typeof GuestService, P> {
  const { method } = GuestService;

  /** Passes a question on to the inspector of the VM that it names. */
  async function ask<I extends DescMessage, O extends DescMessage>(
    asked: DescMethodUnary<I, O>,
    request: MessageShape<I> & { readonly vm?: VmId | undefined },
    context: CallContext<P>,
  ): Promise<Encoded> {
    return find(request.vm).inspection.unary(asked, encoded(asked.input, request), callOf(context));
  }

  return {
    async listTables() {
      return { tables: tableSpecs() };
    },
    async *readTable(request, context) {
      const { readTable } = method;
      yield* find(request.vm).inspection.stream(readTable, encoded(readTable.input, request), callOf(context));
    },
    async readMemory(request, context) {
      try {
        return await ask(method.readMemory, request, context);
      } catch (error) {
        // A guest in its firmware, or another system, has memory all the same.
        if (
          !(error instanceof ConnectError && error.code === Code.FailedPrecondition && isPhysicalAlone(request.items))
        )
          throw error;
        const vm = find(request.vm);
        using memory = await vm.openMemory();
        return { results: await readPhysical(memory.layout, request.items), vm: vm.id };
      }
    },
    translate: (request, context) => ask(method.translate, request, context),
    lookupSymbols: (request, context) => ask(method.lookupSymbols, request, context),
    lookupTypes: (request, context) => ask(method.lookupTypes, request, context),
    readObject: (request, context) => ask(method.readObject, request, context),
    async *streamMemory({ vm, start, length }) {
      using memory = await find(vm).openMemory();
      yield* streamMemory(memory, start, length);
    },
    async *scan(request, context) {
      const physical = request.target === ScanTarget.PHYSICAL;
      yield* find(request.vm).scans.scan(encoded(method.scan.input, request), scanCall(request, context), physical);
    },
    async getRegisters(request) {
      const vm = find(request.vm);
      if (!vm.registers) throw noMonitor("registers");
      return { vcpus: await vm.registers(), vm: vm.id };
    },
    async pause(request) {
      const vm = find(request.vm);
      if (!vm.leases) throw noMonitor("pausing");
      const seconds = request.leaseSeconds || defaultLeaseSeconds;
      if (seconds > maxLeaseSeconds) {
        throw new ConnectError(
          `a pause lasts at most ${maxLeaseSeconds} seconds, not ${seconds}`,
          Code.InvalidArgument,
        );
      }
      const { lease, expiresMs } = await vm.leases.pause(seconds);
      return { lease, expiresMs: BigInt(expiresMs), vm: vm.id };
    },
    async resume(request) {
      const vm = find(request.vm);
      if (!vm.leases) throw noMonitor("resuming");
      return { running: await vm.leases.resume(request.lease), vm: vm.id };
    },
  };
}

function encoded<S extends DescMessage>(schema: S, request: MessageShape<S>): Encoded {
  return new Encoded(toBinary(schema, request));
}

function callOf({ signal, timeoutMs }: CallContext<unknown>): Call {
  return { signal, budgetMs: Math.min(timeoutMs ?? defaultMs, maxMs) };
}

/** A scan ends itself in time, and tells how far it came: what the call may take is a little more. */
function scanCall({ timeLimitMs }: ScanRequest, { signal, timeoutMs }: CallContext<unknown>): Call {
  const limit = (timeLimitMs || defaultScanMs) + scanGraceMs;
  return { signal, budgetMs: Math.min(timeoutMs ?? limit, limit), silenceMs: maxSilenceMs };
}

function noMonitor(what: string): ConnectError {
  return new ConnectError(`${what} needs the monitor of a VM that runs (its QMP socket)`, Code.FailedPrecondition);
}
