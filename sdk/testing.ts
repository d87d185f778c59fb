// A service for the SDK's tests, with one VM whose tables and memory are made up.
import { once } from "node:events";
import { createSecureServer } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { AccountService } from "../proto/gen/cloudvmi/v1/account_pb.ts";
import { ColumnType, GuestService, type VmId } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { HealthService } from "../proto/gen/cloudvmi/v1/health_pb.ts";
import { ScanEnd } from "../proto/gen/cloudvmi/v1/scan_pb.ts";
import { VmService, VmStatus } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
import { addToConnect, createRoutes, type Implementation, type Routes, serveWire } from "../wire/index.ts";

/** Memory of the fake guest: the byte at an address is the address's lowest byte; nothing from 128 MiB on. */
const MEMORY_END = 128n << 20n;
const PIECE = 65_536n;

export interface FakeService extends AsyncDisposable {
  readonly url: string;
  readonly ca: string;
  /** What the guest has been asked to do: pauses and resumptions with their lease. */
  readonly log: string[];
  /** Streams that are being answered. */
  readonly streams: () => number;
}

/** A service that speaks one protocol on a TLS port of loopback. The token is `secret`. `guest` replaces methods. */
export async function startFakeService(
  protocol: "session" | "connect",
  certificate: { readonly cert: string; readonly key: string },
  guest: Partial<Implementation<typeof GuestService, string>> = {},
): Promise<FakeService> {
  const log: string[] = [];
  const state = { streams: 0 };
  const routes = createRoutes<string>();
  addServices(routes, log, state, guest);
  const sockets = new Set<Socket>();
  const server =
    protocol === "session"
      ? createTlsServer({ ...certificate, ALPNProtocols: ["cloudvmi/1"] }, (stream) => {
          serveWire(stream, routes, { authenticate: ({ token }) => admitted(token) });
        })
      : createSecureServer(
          certificate,
          connectNodeAdapter({
            routes: (router) => addToConnect(router, routes, (context) => admitted(bearer(context))),
          }),
        );
  server.on("connection", (socket: Socket) => sockets.add(socket)).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca: certificate.cert,
    log,
    streams: () => state.streams,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

function bearer({ requestHeader }: HandlerContext): string {
  return requestHeader.get("authorization")?.replace(/^Bearer /, "") ?? "";
}

function admitted(token: string): string {
  if (token === "secret") return "alice";
  throw new ConnectError("unknown token", Code.Unauthenticated);
}

function addServices(
  routes: Routes<string>,
  log: string[],
  state: { streams: number },
  guest: Partial<Implementation<typeof GuestService, string>>,
): void {
  const id = { uuid: "u-1", incarnation: "i-1" };
  const vm = { id, name: "web1", project: "shop", status: VmStatus.RUNNING };
  routes
    .add(HealthService, { check: async () => ({ ready: true, version: "0.1.0" }) })
    .add(AccountService, { whoAmI: async (_request, { principal }) => ({ user: principal }) })
    .add(VmService, {
      listVms: async ({ project }) => ({ vms: project === "" || project === "shop" ? [vm] : [] }),
      async getVm(request) {
        if (request.vm !== "web1" && request.vm !== "u-1") throw new ConnectError("no such VM", Code.NotFound);
        return { vm };
      },
    })
    .add(GuestService, {
      async listTables() {
        return { tables: [{ name: "processes", columns: processColumns }] };
      },
      async *readTable(request) {
        if (request.table !== "processes") throw new ConnectError(`no table ${request.table}`, Code.InvalidArgument);
        const most = request.limit === 0n ? 1000 : Number(request.limit);
        const uids = request.where.find(({ column }) => column === "uid")?.values;
        const pids = Array.from({ length: most }, (_, row) => row + 1).filter(
          (pid) => uids?.includes(`${pid % 2}`) ?? true,
        );
        yield { header: processColumns };
        for (let at = 0; at < pids.length; at += 100) {
          const part = pids.slice(at, at + 100);
          const columns = [
            { integers: part.map((pid) => BigInt(pid)) },
            {
              texts: part.map((pid) => Buffer.from(`p${pid}`)),
              states: Uint8Array.from(part, (pid) => (pid === 2 ? 1 : 0)),
            },
          ];
          yield { rows: part.length, columns };
        }
        yield { summary: { vm: checked(request.vm), rows: BigInt(pids.length) } };
      },
      async readMemory({ vm, items }) {
        checked(vm);
        return { results: items.map(({ address, length }) => memoryAt(address, length)) };
      },
      async *streamMemory({ start, length }) {
        state.streams++;
        try {
          const end = length === 0n ? MEMORY_END : start + length;
          for (let at = start; at < end; at += PIECE) {
            if (at >= MEMORY_END) yield { address: at, absent: PIECE };
            else if (at % (2n * PIECE) === 0n) yield { address: at, zeros: PIECE };
            else yield { address: at, data: memoryAt(at, Number(PIECE)).data };
          }
        } finally {
          state.streams--;
        }
      },
      async *scan({ rules, target, pids, maxMatches }) {
        state.streams++;
        try {
          yield {};
          const match = { rule: rules[0]?.name, pattern: "$a", address: 0xffffffff81000000n, length: BigInt(target) };
          yield { matches: [match, { ...match, place: { place: { case: "process", value: { pid: pids[0] ?? 0 } } } }] };
          yield { summary: { bytes: 8192n, matches: BigInt(maxMatches), end: ScanEnd.MATCHES } };
        } finally {
          state.streams--;
        }
      },
      async translate({ items }) {
        return {
          translations: items.map(({ address, space }) => ({ physical: address + 1n, error: `${space?.space.case}` })),
        };
      },
      async lookupSymbols({ names, addresses }) {
        return {
          symbols: [...names.map((name) => ({ name })), ...addresses.map((address) => ({ name: "at", address }))],
        };
      },
      lookupTypes: async ({ names }) => ({ types: names.map((name) => ({ name, kind: "struct", size: 8n })) }),
      readObject: async ({ type, address }) => ({
        type: { name: type, kind: "struct", size: 8n },
        address,
        members: [{ member: { path: "a", declaration: "int a", size: 4 }, value: "7" }],
      }),
      getRegisters: async () => ({ vcpus: [{ index: 0, registers: { rip: 0xffffffff81000000n } }] }),
      async pause({ leaseSeconds }) {
        log.push(`pause ${leaseSeconds}`);
        return { lease: "L", expiresMs: 1_800_000_000_000n };
      },
      async resume({ lease }) {
        log.push(`resume ${lease}`);
        return { running: true };
      },
      ...guest,
    });
}

const processColumns = [
  { name: "pid", type: ColumnType.INTEGER, key: true },
  { name: "name", type: ColumnType.TEXT },
];

function checked(vm: VmId | undefined): VmId {
  if (vm?.uuid === "u-1" && vm.incarnation === "i-1") return vm;
  throw new ConnectError("another incarnation", Code.Aborted);
}

/** The bytes from address 0 on, enough for the largest read at any address. */
const pattern = new Uint8Array((1 << 20) + 256);
for (let at = 0; at < pattern.length; at++) pattern[at] = at;

function memoryAt(address: bigint, length: number): { data: Uint8Array; error: string; address: bigint } {
  const left = MEMORY_END > address ? Number(MEMORY_END - address) : 0;
  const first = Number(BigInt.asUintN(8, address));
  const data = pattern.slice(first, first + Math.min(length, left));
  return { data, error: data.length < length ? "not RAM" : "", address };
}
