// Which action each RPC is, and what the audit trail notes of its request: what was asked, never contents. Total
// over the services: an RPC without a row does not compile.
import { createHash } from "node:crypto";
import type { DescMessage, DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import type { AccountService } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import type { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import type { AddressSpace, GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import type { HealthService } from "../../proto/gen/cloudvmi/v1/health_pb.ts";
import { ScanTargetSchema } from "../../proto/gen/cloudvmi/v1/scan_pb.ts";
import type { SqlService } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import type { VmService } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { Action } from "../action.ts";

/** What goes into a record's `detail`, as JSON. */
export type Detail = Readonly<Record<string, unknown>>;

export interface Rpc<I extends DescMessage = DescMessage> {
  /** Of ReadTable it is what the table's `permission` says, of ListTables without a VM it is `account`. */
  readonly action: Action;
  detail(request: MessageShape<I>): Detail;
}

/** Answered to anyone, and nothing is decided. */
const open = { open: true } as const;

type InputOf<M extends DescMethod> = M["input"];
type RpcTable<S extends DescService> = {
  readonly [M in keyof S["method"]]: Rpc<InputOf<S["method"][M]>> | typeof open;
};

const nothing = (): Detail => ({});

export const guestRpcs = {
  listTables: { action: "list", detail: nothing },
  readTable: {
    action: "table",
    detail: ({ table, columns, where, limit }) => ({ table, columns, where: where.map(({ column }) => column), limit }),
  },
  readMemory: {
    action: "read",
    detail: ({ items }) => ({
      items: items.length,
      bytes: items.reduce((sum, { length }) => sum + length, 0),
      first: items.slice(0, 4).map(({ space, address, length, after }) => {
        const from = after === undefined ? place(space, address) : `item ${after.item} + ${hex(address)}`;
        return `${from} ${length}`;
      }),
    }),
  },
  streamMemory: { action: "stream", detail: ({ start, length }) => ({ start: hex(start), length: hex(length) }) },
  scan: {
    action: "scan",
    detail: ({ target, pids, rules }) => ({
      target: ScanTargetSchema.value[target]?.localName ?? target,
      pids,
      rules: rules.map(({ name }) => name),
      sha256: createHash("sha256")
        .update(rules.map(({ source }) => source).join("\0"))
        .digest("hex"),
    }),
  },
  translate: {
    action: "translate",
    detail: ({ items }) => ({
      items: items.length,
      first: items.slice(0, 4).map(({ space, address }) => place(space, address)),
    }),
  },
  lookupSymbols: {
    action: "symbols",
    detail: ({ names, addresses }) => ({ names, addresses: addresses.slice(0, 16).map(hex) }),
  },
  lookupTypes: { action: "symbols", detail: ({ names }) => ({ types: names }) },
  readObject: {
    action: "read",
    detail: ({ type, space, address }) => ({ type, items: 1, first: [place(space, address)] }),
  },
  getRegisters: { action: "registers", detail: nothing },
  pause: { action: "pause", detail: ({ leaseSeconds }) => ({ leaseSeconds }) },
  resume: { action: "resume", detail: nothing },
} satisfies RpcTable<typeof GuestService>;

export const vmRpcs = {
  listVms: { action: "list", detail: ({ project }) => ({ project }) },
  getVm: { action: "list", detail: nothing },
} satisfies RpcTable<typeof VmService>;

export const sqlRpcs = {
  query: { action: "sql", detail: ({ statement, vms }) => ({ statement, vms }) },
} satisfies RpcTable<typeof SqlService>;

export const healthRpcs = { check: open } satisfies RpcTable<typeof HealthService>;

/** Whether anyone may call the method at a path, without a token too. */
export function isOpen(path: string): boolean {
  return path === "cloudvmi.v1.HealthService/Check";
}

export const accountRpcs = {
  whoAmI: { action: "account", detail: nothing },
  createToken: { action: "ownTokens", detail: ({ note, lifetimeHours }) => ({ create: note, lifetimeHours }) },
  listTokens: { action: "ownTokens", detail: () => ({ list: "" }) },
  revokeToken: { action: "ownTokens", detail: ({ id }) => ({ revoke: id }) },
} satisfies RpcTable<typeof AccountService>;

export const adminRpcs = {
  createProject: { action: "manageProjects", detail: ({ name }) => ({ create: name }) },
  listProjects: { action: "manageProjects", detail: () => ({ list: "" }) },
  createUser: { action: "manageUsers", detail: ({ name, operator }) => ({ create: name, operator }) },
  listUsers: { action: "manageUsers", detail: () => ({ list: "" }) },
  setMembership: { action: "manageUsers", detail: ({ user, project, role }) => ({ user, project, role }) },
  createUserToken: {
    action: "manageTokens",
    detail: ({ user, note, lifetimeHours }) => ({ user, create: note, lifetimeHours }),
  },
  listUserTokens: { action: "manageTokens", detail: ({ user }) => ({ user, list: "" }) },
  revokeUserToken: { action: "manageTokens", detail: ({ id }) => ({ revoke: id }) },
  setOwner: { action: "manageOwners", detail: ({ vmUuid, project }) => ({ vm: vmUuid, project }) },
  addAgent: { action: "manageAgents", detail: ({ name, address }) => ({ add: name, address }) },
  listAgents: { action: "manageAgents", detail: () => ({ list: "" }) },
  moveVm: { action: "manageAgents", detail: ({ vmUuid, agent }) => ({ move: vmUuid, agent }) },
  removeAgent: { action: "manageAgents", detail: ({ name }) => ({ remove: name }) },
  listAllVms: { action: "listAllVms", detail: nothing },
  listAudit: { action: "readAudit", detail: ({ after, limit, newest }) => ({ after, limit, newest }) },
  verifyAudit: { action: "readAudit", detail: ({ anchorSequence }) => ({ verify: anchorSequence }) },
} satisfies RpcTable<typeof AdminService>;

const maxString = 200;
const maxItems = 16;

/** As JSON of a bounded size, whatever a caller puts into its request. */
export function detailText(detail: Detail): string {
  return JSON.stringify(detail, (_key, value: unknown) => {
    if (typeof value === "bigint") return value.toString();
    if (typeof value === "string" && value.length > maxString) return `${value.slice(0, maxString)}…`;
    if (Array.isArray(value) && value.length > maxItems) {
      return [...value.slice(0, maxItems), `and ${value.length - maxItems} more`];
    }
    return value;
  });
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

function place(space: AddressSpace | undefined, address: bigint): string {
  const where = space?.space.case === "pid" ? `pid ${space.space.value}` : (space?.space.case ?? "nowhere");
  return `${where} ${hex(address)}`;
}
