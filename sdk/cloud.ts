// The service as a whole: VMs, account, administration.
import { type Client, Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AccountService, type WhoAmIResponse } from "../proto/gen/cloudvmi/v1/account_pb.ts";
import { AdminService } from "../proto/gen/cloudvmi/v1/admin_pb.ts";
import { GuestService, type TableSpec } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type HealthCheckResponse, HealthService } from "../proto/gen/cloudvmi/v1/health_pb.ts";
import { SqlService } from "../proto/gen/cloudvmi/v1/sql_pb.ts";
import { type Vm, VmService } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createWireTransport } from "../wire/index.ts";
import { isWire, streamMessages } from "./calls.ts";
import { type Address, addressOf, codeOf, dialError, dialSession, nameOf } from "./dial.ts";
import { type GuestHandle, guestOver } from "./guest.ts";
import { type SqlQuery, type SqlReading, sqlReading } from "./sql.ts";

export interface ConnectOptions {
  /** `https://HOST:PORT` */
  readonly url: string;
  /** API token; secret. Empty: only `health()` answers. */
  readonly token: string;
  /** Certificate of the only authority to trust, PEM. By default those that Node trusts. */
  readonly ca?: string | undefined;
  /** `session`: one connection for many small calls, several times as quick. `connect`: HTTP/2, where only that gets through. */
  readonly protocol?: "session" | "connect" | undefined;
}

/** A service, used with one token. Connects on first use, and again after a break. Fails with ConnectErrors. */
export interface CloudVmi extends AsyncDisposable {
  whoAmI(): Promise<WhoAmIResponse>;
  health(): Promise<HealthCheckResponse>;
  /** The VMs that the token may see; those of one project only, if wanted. */
  vms(filter?: { readonly project?: string | undefined }): Promise<Vm[]>;
  /** The VM of this UUID or name; NotFound if there is none that the token may see. */
  vm(nameOrUuid: string): Promise<GuestHandle>;
  /** One SELECT in SQLite's language over the tables of many VMs; each has a column `vm` first. */
  sql(statement: string, query?: SqlQuery): SqlReading;
  /** Every table that some VM has. */
  tables(): Promise<TableSpec[]>;
  readonly account: Client<typeof AccountService>;
  /** For operators. */
  readonly admin: Client<typeof AdminService>;
  close(): Promise<void>;
}

/** Opens nothing yet. Throws InvalidArgument for a URL or token that can't be one. */
export function connect(options: ConnectOptions): CloudVmi {
  const address = addressOf(options.url);
  if (!/^[\x21-\x7e]*$/.test(options.token)) {
    throw new ConnectError("the token is not one: it is one word of printable characters", Code.InvalidArgument);
  }
  const { transport, close } =
    options.protocol === "connect" ? connectTransport(options, address) : sessionTransport(options, address);
  const vms = createClient(VmService, transport);
  const guests = createClient(GuestService, transport);
  const account = createClient(AccountService, transport);
  const healthClient = createClient(HealthService, transport);
  return {
    account,
    admin: createClient(AdminService, transport),
    whoAmI: () => account.whoAmI({}),
    health: () => healthClient.check({}),
    async vms(filter = {}) {
      return (await vms.listVms({ project: filter.project ?? "" })).vms;
    },
    async vm(nameOrUuid) {
      const { vm } = await vms.getVm({ vm: nameOrUuid });
      if (vm?.id === undefined) throw new ConnectError(`there is no VM '${nameOrUuid}'`, Code.NotFound);
      return guestOver(transport, vm.id);
    },
    sql(statement, query = {}) {
      const request = { statement, vms: [...(query.vms ?? [])] };
      const { query: method } = SqlService.method;
      return sqlReading(() =>
        isWire(transport)
          ? transport.streamEncoded(method, request, { signal: query.signal })
          : streamMessages(transport, method, request, query.signal),
      );
    },
    async tables() {
      return (await guests.listTables({})).tables;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface Reach {
  readonly transport: Transport;
  readonly close: () => Promise<void>;
}

function sessionTransport(options: ConnectOptions, address: Address): Reach {
  const transport = createWireTransport({
    connect: () => dialSession(address, options.ca),
    token: options.token,
    client: "cloudvmi-sdk",
    reconnect: true,
    keepaliveMs: 30_000,
  });
  return { transport, close: () => transport.close() };
}

function connectTransport(options: ConnectOptions, address: Address): Reach {
  const baseUrl = new URL(options.url).origin;
  const sessionManager = new Http2SessionManager(
    baseUrl,
    { pingIntervalMs: 30_000 },
    options.ca === undefined ? {} : { ca: options.ca },
  );
  const authorised: Interceptor = (next) => async (request) => {
    if (options.token !== "") request.header.set("authorization", `Bearer ${options.token}`);
    try {
      return await next(request);
    } catch (error) {
      // The service's own answers have no code of the system or of TLS among their causes.
      throw codeOf(error) === "" ? error : dialError(error, nameOf(address));
    }
  };
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl,
    sessionManager,
    interceptors: [authorised],
    // Memory and rows gain little by compression, and it costs more than the network.
    acceptCompression: [],
  });
  return {
    transport,
    async close() {
      sessionManager.abort();
    },
  };
}
