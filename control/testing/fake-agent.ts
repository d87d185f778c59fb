// An agent without a host behind it: the contract that control speaks, with answers that a test can recognise.
import { rm } from "node:fs/promises";
import net from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { AgentService, type WatchVmsResponseSchema } from "../../proto/gen/cloudvmi/agent/v1/agent_pb.ts";
import { ColumnType, GuestService, type VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { ScanEnd } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import { type Vm, VmSchema, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createRoutes, serveWire, type WireConnection } from "../../wire/index.ts";

export interface FakeVm {
  readonly uuid: string;
  readonly incarnation?: string;
  readonly name?: string;
  readonly project?: string;
  readonly labels?: Record<string, string>;
}

export interface FakeAgent extends AsyncDisposable {
  readonly address: string;
  /** What has reached it, as `method uuid/incarnation`. */
  readonly seen: string[];
  /** Runs before anything is answered. */
  before: (method: string, signal: AbortSignal) => Promise<void>;
  put(vm: FakeVm): void;
  remove(uuid: string): void;
  start(): Promise<void>;
  /** As if its host were cut off: connections end, the socket is gone. */
  stop(): Promise<void>;
}

const pid = { name: "pid", type: ColumnType.INTEGER };

type Update = MessageInitShape<typeof WatchVmsResponseSchema>;

export async function startFakeAgent(socket: string, vms: readonly FakeVm[]): Promise<FakeAgent> {
  const present = new Map<string, Vm>();
  const watchers = new Set<(update: Update) => void>();
  const connections = new Set<WireConnection>();
  let server: net.Server | undefined;

  const check = async (method: string, vm: VmId | undefined, signal: AbortSignal) => {
    agent.seen.push(`${method} ${vm?.uuid}/${vm?.incarnation}`);
    await agent.before(method, signal);
    const known = present.get(vm?.uuid ?? "");
    if (known === undefined) throw new ConnectError("no such VM here", Code.NotFound);
    if (known.id?.incarnation !== vm?.incarnation) throw new ConnectError("another incarnation", Code.Aborted);
    return known;
  };

  const routes = createRoutes<undefined>()
    .add(AgentService, {
      describe: async () => ({
        version: "9.9",
        host: "fake",
        tables: [
          { name: "processes", permission: "table", columns: [pid] },
          { name: "secrets", permission: "read", columns: [pid] },
          { name: "future", permission: "levitate" },
        ],
        warnings: ["no uid"],
      }),
      watchVms: async function* (_request, { signal }) {
        const queue: Update[] = [{ present: [...present.values()], synced: true }];
        let wake = () => {};
        const watcher = (update: Update) => {
          queue.push(update);
          wake();
        };
        watchers.add(watcher);
        signal.addEventListener("abort", () => wake());
        try {
          while (!signal.aborted) {
            const next = queue.shift();
            if (next !== undefined) yield next;
            else await new Promise<void>((resolve) => (wake = resolve));
          }
        } finally {
          watchers.delete(watcher);
        }
      },
    })
    .add(GuestService, {
      readTable: async function* ({ vm, table }, { signal }) {
        const known = await check("readTable", vm, signal);
        yield { header: [pid], rows: 1, columns: [{ integers: [1n] }] };
        const summary = { vm: known.id, rows: 2n, retried: 3, incomplete: table === "secrets", notes: [table] };
        yield { rows: 1, columns: [{ integers: [2n] }], summary };
      },
      readMemory: async ({ vm, items }, { signal }) => {
        const known = await check("readMemory", vm, signal);
        return { vm: known.id, results: items.map(({ length }) => ({ data: new Uint8Array(length).fill(7) })) };
      },
      streamMemory: async function* ({ vm, start }, { signal }) {
        await check("streamMemory", vm, signal);
        yield { address: start, data: new Uint8Array(16) };
        await agent.before("streamMemory, second piece", signal);
        yield { address: start + 16n, zeros: 4096n };
      },
      scan: async function* ({ vm, rules }, { signal }) {
        const known = await check("scan", vm, signal);
        yield { matches: rules.map(({ name }) => ({ rule: name })) };
        yield { summary: { vm: known.id, end: ScanEnd.COMPLETE } };
      },
      translate: async ({ vm }, { signal }) => ({ vm: (await check("translate", vm, signal)).id }),
      lookupSymbols: async ({ vm }, { signal }) => ({ vm: (await check("lookupSymbols", vm, signal)).id }),
      lookupTypes: async ({ vm }, { signal }) => ({ vm: (await check("lookupTypes", vm, signal)).id }),
      readObject: async ({ vm }, { signal }) => ({ vm: (await check("readObject", vm, signal)).id }),
      getRegisters: async ({ vm }, { signal }) => ({ vm: (await check("getRegisters", vm, signal)).id }),
      pause: async ({ vm }, { signal }) => ({ vm: (await check("pause", vm, signal)).id, lease: "lease-1" }),
      resume: async ({ vm }, { signal }) => ({ vm: (await check("resume", vm, signal)).id, running: true }),
    });

  const agent: FakeAgent = {
    address: `unix:${socket}`,
    seen: [],
    before: async () => {},
    put({ uuid, incarnation = "1", name = "", project = "", labels = {} }) {
      const vm = create(VmSchema, { id: { uuid, incarnation }, name, project, labels, status: VmStatus.RUNNING });
      present.set(uuid, vm);
      for (const watcher of watchers) watcher({ present: [vm] });
    },
    remove(uuid) {
      const id = present.get(uuid)?.id;
      present.delete(uuid);
      for (const watcher of watchers) watcher({ gone: id === undefined ? [] : [id] });
    },
    async start() {
      server = net.createServer((stream) => {
        const connection = serveWire(stream, routes, { authenticate: () => undefined });
        connections.add(connection);
        void connection.closed.then(() => connections.delete(connection));
      });
      server.listen(socket);
      await new Promise((resolve) => server?.once("listening", resolve));
    },
    async stop() {
      const stopping = server;
      server = undefined;
      if (stopping === undefined) return;
      const closed = new Promise((resolve) => stopping.close(resolve));
      for (const connection of connections) connection.close();
      await closed;
      await rm(socket, { force: true });
    },
    [Symbol.asyncDispose]: () => agent.stop(),
  };
  for (const vm of vms) agent.put(vm);
  await agent.start();
  return agent;
}
