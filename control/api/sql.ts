// SQL over the VMs of a caller. A statement sees nothing of its own: every table of every VM is read through the gate.
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { GuestService, ReadTableRequestSchema } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { QueryRequest, SqlService } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { runSql, sqlTables, type TableRead } from "../../sql/index.ts";
import { type CallContext, Encoded, type Implementation } from "../../wire/index.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { FleetVm } from "../fleet/registry.ts";
import { invalid } from "../problem.ts";
import type { ActiveCall } from "./calls.ts";
import type { Gate, Session } from "./gate.ts";
import { fromAgent, route, tableQuestion } from "./guest.ts";
import { guestRpcs, sqlRpcs } from "./rpc.ts";

/** VMs that one statement may name. */
const maxNamed = 1000;

/** A VM that a statement is about. */
interface Asked {
  /** Its value of the column `vm`. */
  readonly label: string;
  /** The failure instead of the VM: each read of it fails like this. */
  readonly vm: FleetVm | ConnectError;
}

export function sqlService(gate: Gate, fleet: Fleet): Implementation<typeof SqlService, Session> {
  /** The VMs named, or all that the caller may list. One that can't be had is a failure of the answer, not its end. */
  async function askedVms(call: ActiveCall, names: readonly string[]): Promise<Asked[]> {
    if (names.length === 0) return labelled(await gate.listable(call, ""));
    if (names.length > maxNamed)
      throw invalid(`a statement names at most ${maxNamed} VMs: leave them out for all of yours`);
    // Side by side, so that their records share a wait for the disk.
    const looked = await Promise.all(
      [...new Set(names)].map(async (name): Promise<FleetVm | Asked> => {
        try {
          const { vm, recorded } = await gate.vm(call, { uuid: name, incarnation: "" }, { action: "list" }, {});
          await recorded;
          return vm;
        } catch (error) {
          if (!(error instanceof ConnectError) || names.length === 1) throw error;
          return { label: name, vm: error };
        }
      }),
    );
    const missing = looked.filter((each) => "label" in each);
    const found = new Map(looked.filter((each) => "uuid" in each).map((vm) => [vm.uuid, vm]));
    const known = labelled([...found.values()]);
    return [...known, ...missing.filter(({ label }) => !known.some((each) => each.label === label))];
  }

  async function* read(call: ActiveCall, asked: Asked, wanted: TableRead): AsyncGenerator<Uint8Array> {
    if (asked.vm instanceof ConnectError) throw asked.vm;
    const { uuid, incarnation } = asked.vm;
    const request = create(ReadTableRequestSchema, {
      vm: { uuid, incarnation },
      table: wanted.table,
      columns: [...wanted.columns],
      where: wanted.where.map(({ column, values }) => ({ column, values: [...values] })),
      limit: BigInt(wanted.limit),
    });
    const { vm, recorded } = await gate.vm(
      call,
      request.vm,
      tableQuestion(fleet, wanted.table),
      guestRpcs.readTable.detail(request),
    );
    try {
      const transport = route(fleet, request, vm);
      const answer = transport.streamEncoded(GuestService.method.readTable, request, {
        signal: wanted.signal,
        timeoutMs: call.timeoutMs,
      });
      let first = true;
      for await (const bytes of answer) {
        if (first) await recorded;
        first = false;
        yield bytes;
        transport.recycle(bytes);
      }
    } catch (error) {
      await recorded;
      throw fromAgent(error, call, vm);
    }
    await recorded;
  }

  return {
    async *query(request: QueryRequest, context: CallContext<Session>) {
      using call = await gate.enter(context);
      await gate.system(call, sqlRpcs.query.action, sqlRpcs.query.detail(request));
      call.begin(sqlRpcs.query.action);
      const asked = await askedVms(call, request.vms);
      const broken = new AbortController();
      const answer = runSql(request.statement, {
        tables: sqlTables(fleet.tables()),
        vms: asked.map(({ label }) => label),
        read: (wanted) => endingAll(read(call, asked[wanted.vm]!, wanted), broken),
        limits: { timeoutMs: call.timeoutMs },
        signal: AbortSignal.any([call.signal, broken.signal]),
        user: call.principal.account.name,
      });
      try {
        for await (const bytes of answer) yield new Encoded(bytes);
      } finally {
        broken.signal.throwIfAborted();
      }
    },
  };
}

/** A defect, or a trail that can't be written, is no failure of one VM: it ends the statement, and callers don't learn of it. */
async function* endingAll<T>(rows: AsyncIterable<T>, broken: AbortController): AsyncGenerator<T> {
  try {
    yield* rows;
  } catch (error) {
    if (!(error instanceof ConnectError)) broken.abort(error);
    throw error;
  }
}

/** VMs by name; those that share one by UUID. */
function labelled(vms: readonly FleetVm[]): Asked[] {
  const names = Map.groupBy(vms, ({ name }) => name);
  return vms.map((vm) => ({ label: vm.name !== "" && names.get(vm.name)!.length === 1 ? vm.name : vm.uuid, vm }));
}
