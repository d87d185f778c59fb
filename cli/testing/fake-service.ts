import { createServer, type TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { AccountService } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import { ColumnType, GuestService, type VmId } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { HealthService } from "../../proto/gen/cloudvmi/v1/health_pb.ts";
import { SqlService } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { VmService, VmStatus } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createRoutes, serveWire } from "../../wire/index.ts";
import { selfSigned } from "./certificate.ts";
import { adminService } from "./fake-admin.ts";
import { findingNotes, findingRows } from "./fake-findings.ts";
import { scanUpdates } from "./fake-scan.ts";
import { rowsOf, tables, type Value } from "./fake-tables.ts";

export const goodToken = "good-token";
export const expiredToken = "expired-token";

const vm = (uuid: string, name: string, host: string) => ({
  id: { uuid, incarnation: "1" },
  name,
  project: "shop",
  host,
  status: VmStatus.RUNNING,
  memoryBytes: 1n << 30n,
  vcpus: 2,
  architecture: "x86-64",
  labels: { tier: "web" },
  hypervisor: "qemu",
});

/** Two that can be read on two hosts, and one without Linux. */
export const vms = [
  vm("00000000-0000-4000-8000-000000000001", "web1", "host1"),
  vm("00000000-0000-4000-8000-000000000002", "db1", "host2"),
  vm("00000000-0000-4000-8000-000000000003", "boot1", "host2"),
];

/** Where the fake's memory is: one page at this kernel address, each byte its own offset. */
const pageAddress = 0xffffffff81000000n;
const page = Uint8Array.from({ length: 4096 }, (_, at) => at & 0xff);

/** The types of its kernel. */
const pair = {
  name: "pair",
  kind: "struct",
  declaration: "struct pair",
  size: 24n,
  members: [
    { path: "next", declaration: "struct pair *next", offset: 0, size: 8 },
    { path: "flags", declaration: "unsigned int flags : 3", offset: 8, size: 4, bitOffset: 1, bitSize: 3 },
    { path: "name", declaration: "char name[8]", offset: 16, size: 8, depth: 1 },
  ],
};
const side = {
  name: "side",
  kind: "enum",
  declaration: "enum side",
  size: 4n,
  values: [
    { name: "LEFT", value: 0n },
    { name: "RIGHT", value: -1n },
  ],
};
const missing = (name: string) => ({ name, error: `the kernel has no type '${name}'` });

function columnOf(type: ColumnType, values: Value[]) {
  const states = values.map((value) => (value === null ? 1 : value === "unreadable" ? 2 : 0));
  const present = values.map((value, at) => (states[at] === 0 ? value : undefined));
  return type === ColumnType.INTEGER
    ? { integers: present.map((value) => BigInt((value as number | bigint) ?? 0)), states: Uint8Array.from(states) }
    : {
        texts: present.map((value) =>
          value instanceof Uint8Array ? value : new TextEncoder().encode((value as string) ?? ""),
        ),
        states: Uint8Array.from(states),
      };
}

function guestOf(id: VmId | undefined) {
  const found = vms.find((each) => each.id.uuid === id?.uuid);
  if (found === undefined) throw new ConnectError("there is no such VM", Code.NotFound);
  if (found.name === "boot1")
    throw new ConnectError("no Linux kernel runs there: it may still be booting", Code.FailedPrecondition);
  return { uuid: found.id.uuid, incarnation: "1" };
}

export interface FakeService extends AsyncDisposable {
  url: string;
  /** PEM of its authority. */
  ca: string;
  /** Requests of ReadTable that have come. */
  asked: { table: string; columns: string[]; where: Record<string, string[]>; limit: bigint }[];
  /** VMs that were given to another agent, as `uuid agent`. */
  moved: string[];
}

/** A service as the CLI sees one: real TLS and session protocol in front of canned answers. */
export async function startFakeService(): Promise<FakeService> {
  const asked: FakeService["asked"] = [];
  const moved: FakeService["moved"] = [];
  const { certificate, key } = await selfSigned();
  const routes = createRoutes<string>();
  routes.add(HealthService, { check: async () => ({ ready: true, version: "1.2.3", agents: 2, agentsReachable: 2 }) });
  routes.add(AccountService, {
    whoAmI: async () => ({
      user: "alice",
      operator: false,
      memberships: [{ project: "shop", role: "analyst" }],
      tokenId: "t1",
    }),
    createToken: async ({ note, lifetimeHours }) => ({
      token: {
        id: "t2",
        user: "alice",
        note,
        createdMs: 1n,
        expiresMs: BigInt(Date.now() + lifetimeHours * 3_600_000),
      },
      secret: "new-secret",
    }),
    listTokens: async () => ({ tokens: [{ id: "t1", user: "alice", note: "laptop", createdMs: 1n, expiresMs: 2n }] }),
    revokeToken: async () => ({}),
  });
  routes.add(AdminService, adminService(moved));
  routes.add(VmService, {
    listVms: async ({ project }) => ({ vms: vms.filter((each) => project === "" || each.project === project) }),
    async getVm({ vm: name }) {
      const found = vms.find((each) => each.name === name || each.id.uuid === name);
      if (found === undefined) throw new ConnectError("there is no such VM", Code.NotFound);
      return { vm: found };
    },
  });
  routes.add(SqlService, {
    async *query({ statement, vms: named }, { signal }) {
      if (/^SELECT endless\b/.test(statement)) {
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        throw new ConnectError("it was given up", Code.Canceled);
      }
      if (/^SELEC\b/.test(statement)) throw new ConnectError('near "SELEC": syntax error', Code.InvalidArgument);
      const text = (value: string) => ({ value: { case: "text", value } }) as const;
      if (named.length > 0) {
        yield {
          columns: ["statement"],
          rows: [{ values: [text(statement)] }],
          summary: { rows: 1n, vms: named.length },
        };
        return;
      }
      yield { columns: ["vm", "n"], rows: [{ values: [text("web1"), { value: { case: "integer", value: 1n } }] }] };
      const failures = [{ vm: "boot1", code: Code.FailedPrecondition, message: "no Linux kernel runs there" }];
      const notes = [{ vm: "db1", table: "t", note: "it kept changing" }];
      const reads = [{ table: "t", columns: ["n"], where: ["pid"], vms: 3, rows: 2n, retried: 5n }];
      yield {
        rows: [{ values: [text("db1"), {}] }],
        summary: { rows: 2n, vms: 3, failures, notes, reads, retried: 5n, unlisted: 1, microseconds: 7n },
      };
    },
  });
  routes.add(GuestService, {
    async listTables({ vm: id }) {
      // Without a VM: those of any agent.
      if (id !== undefined) guestOf(id);
      return { tables };
    },
    async *readTable({ vm: id, table, columns, where, limit }) {
      const guest = guestOf(id);
      asked.push({ table, columns, where: Object.fromEntries(where.map((one) => [one.column, one.values])), limit });
      const known = tables.find(({ name }) => name === table);
      if (known === undefined) throw new ConnectError(`unknown table '${table}'`, Code.InvalidArgument);
      const header =
        columns.length === 0 ? known.columns : columns.map((name) => known.columns.find((each) => each.name === name));
      if (!header.every((each) => each !== undefined)) throw new ConnectError("unknown column", Code.InvalidArgument);
      const all = table === "findings" ? findingRows(guest.uuid) : rowsOf[table]!;
      const matching = all.filter((row) => where.every((one) => one.values.includes(`${row[one.column]}`)));
      const rows = matching.slice(0, limit === 0n ? undefined : Number(limit));
      const notes = table === "findings" ? findingNotes(guest.uuid) : [];
      yield {
        header,
        rows: rows.length,
        columns: header.map((each) =>
          columnOf(
            each.type,
            rows.map((row) => row[each.name]!),
          ),
        ),
        summary: {
          vm: guest,
          rows: BigInt(rows.length),
          incomplete: notes.length > 0,
          notes,
          microseconds: 41_000n,
        },
      };
    },
    async readMemory({ vm: id, items }) {
      guestOf(id);
      return {
        results: items.map(({ address, length }) => {
          const offset = Number(address - pageAddress);
          const data = offset >= 0 && offset < page.length ? page.subarray(offset, offset + length) : new Uint8Array(0);
          return { data, address, error: data.length < length ? "not mapped" : "" };
        }),
      };
    },
    async *streamMemory({ vm: id, start }) {
      guestOf(id);
      yield { address: start, data: page };
      yield { address: start + 4096n, zeros: 8192n };
      yield { address: start + 12_288n, absent: 4096n };
      yield { address: start + 16_384n, data: page };
      yield { address: start + 20_480n, zeros: 4096n };
    },
    async *scan(request) {
      guestOf(request.vm);
      yield* scanUpdates(request);
    },
    async translate({ vm: id, items }) {
      guestOf(id);
      return {
        translations: items.map(({ address }) =>
          address >= pageAddress
            ? { physical: address - pageAddress, pageSize: 4096n, executable: true }
            : { error: "not mapped" },
        ),
      };
    },
    async lookupSymbols({ vm: id, names, addresses }) {
      guestOf(id);
      const named = names.map((name) =>
        name === "init_task" ? { name, address: pageAddress + 16n, type: "D" } : { name, error: `no symbol '${name}'` },
      );
      const near = addresses.map((address) =>
        address < pageAddress
          ? { address, error: "no symbol there" }
          : { name: "init_task", address: pageAddress + 16n, type: "D", offset: address - pageAddress - 16n },
      );
      return { symbols: [...named, ...near] };
    },
    async lookupTypes({ vm: id, names }) {
      guestOf(id);
      return { types: names.map((name) => (name === "pair" ? pair : name === "side" ? side : missing(name))) };
    },
    async readObject({ vm: id, type, address }) {
      guestOf(id);
      if (type !== "pair") throw new ConnectError(missing(type).error, Code.InvalidArgument);
      const [first, second, third] = pair.members;
      if (address === 0n) {
        const empty = { ...first, path: "empty", size: 0 };
        const members = [{ member: empty }, ...pair.members.map((member) => ({ member, error: "not in memory" }))];
        return { type: { ...pair, members: [] }, address, members };
      }
      const members = [
        { member: first, value: "0xffffffff81000010", symbol: "init_task" },
        { member: second, value: "5" },
        { member: third, error: "not in memory" },
      ];
      return { type: { ...pair, members: [] }, address, members };
    },
    async getRegisters({ vm: id }) {
      guestOf(id);
      return { vcpus: [{ index: 0, registers: { rip: pageAddress, rax: 0n } }] };
    },
    async pause({ vm: id, leaseSeconds }) {
      guestOf(id);
      return { lease: "lease-1", expiresMs: BigInt(Date.now() + leaseSeconds * 1000) };
    },
    async resume({ lease }) {
      if (lease !== "lease-1") throw new ConnectError("there is no such lease", Code.NotFound);
      return { running: true };
    },
  });
  const sockets = new Set<TLSSocket>();
  const server = createServer({ cert: certificate, key, ALPNProtocols: ["cloudvmi/1"] }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    serveWire(socket, routes, {
      authenticate({ token }) {
        if (token === goodToken) return "alice";
        throw new ConnectError(
          token === expiredToken ? "the token has expired" : "the token is not valid",
          Code.Unauthenticated,
        );
      },
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `https://127.0.0.1:${port}`,
    ca: certificate,
    asked,
    moved,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
