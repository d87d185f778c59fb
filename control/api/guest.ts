import {
  create,
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { GuestService, type ReadMemoryRequest, type VmId, VmIdSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type CallContext, Encoded, type Implementation, type WireTransport } from "../../wire/index.ts";
import { isVmAction, type VmAction } from "../action.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { FleetVm } from "../fleet/registry.ts";
import { denied, unavailable } from "../problem.ts";
import type { ActiveCall } from "./calls.ts";
import type { Gate, Session, VmQuestion } from "./gate.ts";
import { type Detail, guestRpcs } from "./rpc.ts";

interface VmRpc<I extends DescMessage> {
  readonly action: VmAction;
  detail(request: MessageShape<I>): Detail;
  /** How many bytes the answer may have, where that can be much. */
  answerBytes?(request: MessageShape<I>): number;
}

interface NamesVm {
  vm?: VmId | undefined;
}

/** What each method does once the gate has let it in: hand the request to the VM's agent and pass the answer on, unread. */
export function guestService(gate: Gate, fleet: Fleet): Implementation<typeof GuestService, Session> {
  const { method } = GuestService;

  async function unary<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodUnary<I, O>,
    { action, detail, answerBytes }: VmRpc<I>,
    request: MessageShape<I> & NamesVm,
    context: CallContext<Session>,
  ): Promise<Encoded> {
    using call = await gate.enter(context);
    const { vm, recorded } = await gate.vm(call, request.vm, { action }, detail(request));
    // The guest is read while the record goes to the disk; the answer waits for both.
    const [read] = await Promise.allSettled([
      (async () => {
        const transport = route(fleet, request, vm);
        if (answerBytes !== undefined) await call.room(answerBytes(request));
        return transport.unaryEncoded(rpc, request as MessageInitShape<I>, {
          signal: call.signal,
          timeoutMs: call.timeoutMs,
        });
      })(),
      recorded,
    ]);
    await recorded;
    if (read.status === "rejected") throw fromAgent(read.reason, call, vm);
    return Encoded.received(read.value);
  }

  async function* stream<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodServerStreaming<I, O>,
    question: (request: MessageShape<I>) => VmQuestion,
    detail: (request: MessageShape<I>) => Detail,
    request: MessageShape<I> & NamesVm,
    context: CallContext<Session>,
  ): AsyncGenerator<Encoded> {
    using call = await gate.enter(context);
    const { vm, recorded } = await gate.vm(call, request.vm, question(request), detail(request));
    try {
      const transport = route(fleet, request, vm);
      const answer = transport.streamEncoded(rpc, request as MessageInitShape<I>, {
        signal: call.signal,
        timeoutMs: call.timeoutMs,
      });
      let first = true;
      for await (const bytes of answer) {
        if (first) await recorded;
        first = false;
        // What had come before the call was ended is not passed on either.
        call.signal.throwIfAborted();
        yield Encoded.received(bytes, () => transport.recycle(bytes));
      }
    } catch (error) {
      await recorded;
      throw fromAgent(error, call, vm);
    }
    await recorded;
  }

  return {
    async listTables(request, context) {
      using call = await gate.enter(context);
      const detail = guestRpcs.listTables.detail();
      if (request.vm === undefined) {
        await gate.system(call, "account", detail);
        return { tables: [...fleet.tables()] };
      }
      const { vm, recorded } = await gate.vm(call, request.vm, { action: guestRpcs.listTables.action }, detail);
      await recorded;
      return { tables: [...fleet.tables(vm.host)] };
    },
    readTable(request, context) {
      const { detail } = guestRpcs.readTable;
      return stream(method.readTable, ({ table }) => tableQuestion(fleet, table), detail, request, context);
    },
    streamMemory(request, context) {
      const { action, detail } = guestRpcs.streamMemory;
      return stream(method.streamMemory, () => ({ action }), detail, request, context);
    },
    scan(request, context) {
      const { action, detail } = guestRpcs.scan;
      return stream(method.scan, () => ({ action }), detail, request, context);
    },
    readMemory: (request, context) =>
      unary(method.readMemory, { ...guestRpcs.readMemory, answerBytes: bytesAsked }, request, context),
    translate: (request, context) => unary(method.translate, guestRpcs.translate, request, context),
    lookupSymbols: (request, context) => unary(method.lookupSymbols, guestRpcs.lookupSymbols, request, context),
    lookupTypes: (request, context) => unary(method.lookupTypes, guestRpcs.lookupTypes, request, context),
    readObject: (request, context) => unary(method.readObject, guestRpcs.readObject, request, context),
    getRegisters: (request, context) => unary(method.getRegisters, guestRpcs.getRegisters, request, context),
    pause: (request, context) => unary(method.pause, guestRpcs.pause, request, context),
    resume: (request, context) => unary(method.resume, guestRpcs.resume, request, context),
  };
}

/** What of a batch the agent answers at most; it refuses one that asks for more. */
function bytesAsked({ items }: ReadMemoryRequest): number {
  return Math.min(
    items.reduce((sum, { length }) => sum + length, 0),
    16 * 1024 * 1024,
  );
}

/** Where a request goes; it then names the VM by its UUID and incarnation. */
export function route(fleet: Fleet, request: NamesVm, vm: FleetVm): WireTransport {
  const asked = request.vm?.incarnation ?? "";
  if (asked !== "" && asked !== vm.incarnation) {
    throw new ConnectError(
      `VM ${vm.name} has been restarted since: it runs as incarnation ${JSON.stringify(vm.incarnation)} now`,
      Code.Aborted,
    );
  }
  const transport = fleet.transportOf(vm.host);
  if (transport === undefined) throw unavailable(`the host of VM ${vm.name} can't be reached now: try again later`);
  request.vm = create(VmIdSchema, { uuid: vm.uuid, incarnation: vm.incarnation });
  return transport;
}

/** The action that the table's catalogue entry asks for. A table that the agent does not have is for it to refuse. */
export function tableQuestion(fleet: Fleet, name: string): VmQuestion {
  const { action } = guestRpcs.readTable;
  return {
    action,
    of(vm) {
      const table = fleet.tables(vm.host).find((each) => each.name === name);
      if (table === undefined) return { action };
      if (isVmAction(table.permission)) return { action: table.permission, table: name };
      return denied(
        `table ${name} needs the permission '${table.permission}', which this service does not know: update it`,
      );
    },
  };
}

/** What a caller is told of what went wrong between control and the agent. */
export function fromAgent(error: unknown, call: ActiveCall, vm: FleetVm): unknown {
  if (call.signal.aborted && call.signal.reason instanceof ConnectError) return call.signal.reason;
  if (!(error instanceof ConnectError)) return error;
  // Between agent and control: nothing that the caller could mend.
  if (error.code === Code.Unauthenticated || error.code === Code.PermissionDenied) {
    return unavailable(`the host of VM ${vm.name} refuses this service: ask an operator`);
  }
  return new ConnectError(error.rawMessage, error.code);
}
