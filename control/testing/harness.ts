// A whole control in a temporary directory, with clients for every protocol it speaks.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { type Client, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { AccountService } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import { GuestService } from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { HealthService } from "../../proto/gen/cloudvmi/v1/health_pb.ts";
import { SqlService } from "../../proto/gen/cloudvmi/v1/sql_pb.ts";
import { VmService } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createWireTransport, SESSION_PROTOCOL } from "../../wire/index.ts";
import { parseControlConfig } from "../config.ts";
import { type RunningControl, startControl } from "../control.ts";
import { createLog } from "../log.ts";
import { type FakeAgent, type FakeVm, startFakeAgent } from "./fake-agent.ts";

export const protocols = ["wire", "connect over h2", "connect over http/1.1", "grpc"] as const;
export type Protocol = (typeof protocols)[number];

/** Two tenants' VMs and one that nobody owns. */
export const web1 = "00000000-0000-4000-8000-00000000aaa1";
export const bank1 = "00000000-0000-4000-8000-00000000bbb1";
export const stray = "00000000-0000-4000-8000-00000000ccc1";
export const absent = "00000000-0000-4000-8000-00000000ddd1";

export interface Clients {
  readonly guest: Client<typeof GuestService>;
  readonly vms: Client<typeof VmService>;
  readonly sql: Client<typeof SqlService>;
  readonly account: Client<typeof AccountService>;
  readonly admin: Client<typeof AdminService>;
  readonly health: Client<typeof HealthService>;
}

export interface Harness extends AsyncDisposable {
  readonly directory: string;
  readonly control: RunningControl;
  readonly ca: string;
  readonly agent: FakeAgent;
  readonly log: string[];
  /** The first operator. */
  readonly admin: Client<typeof AdminService>;
  /** A new token of a user of the configuration. */
  token(user: string): Promise<string>;
  clients(token: string, protocol?: Protocol): Clients;
  as(user: string, protocol?: Protocol): Promise<Clients>;
  /** Stops control and starts it again on the same state. */
  restart(): Promise<void>;
}

const config = `
listen = "tls://127.0.0.1:0"
state = "state"
[limits]
calls_per_user = 8
connections = CONNECTIONS
[[agent]]
name = "host1"
address = "unix:AGENT"
[[project]]
name = "shop"
[[project]]
name = "bank"
${["viewer", "analyst", "responder", "owner"]
  .map((role) => `[[user]]\nname = "${role}"\n[[user.membership]]\nproject = "shop"\nrole = "${role}"\n`)
  .join("")}
[[user]]
name = "banker"
[[user.membership]]
project = "bank"
role = "owner"
[[user]]
name = "nobody"
`;

interface HarnessOptions {
  readonly vms?: FakeVm[];
  /** Added to the configuration. */
  readonly more?: string;
  /** Of the public port, at once. */
  readonly connections?: number;
  /** Folder of own policies, relative to the harness's directory. */
  readonly policies?: string;
  /** Runs before control starts, with its directory. */
  readonly prepare?: (directory: string) => Promise<void>;
}

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const directory = mkdtempSync(path.join(tmpdir(), "cloudvmi-control-"));
  const socket = path.join(directory, "agent.sock");
  const agent = await startFakeAgent(
    socket,
    options.vms ?? [
      { uuid: web1, name: "web1", project: "shop", labels: { tier: "web" } },
      { uuid: bank1, name: "bank1", project: "bank" },
      { uuid: stray, name: "stray", project: "no-such-project" },
    ],
  );
  await options.prepare?.(directory);
  const log: string[] = [];
  const first = options.policies === undefined ? "" : `policies = "${options.policies}"`;
  const filled = config.replace("AGENT", socket).replace("CONNECTIONS", `${options.connections ?? 1024}`);
  const start = () =>
    startControl(
      parseControlConfig(first + filled + (options.more ?? ""), directory),
      createLog((line) => log.push(line)),
    );
  const stack = new AsyncDisposableStack();
  let control = await start();
  const ca = readFileSync(path.join(directory, "state", "ca.pem"), "utf8");
  const adminToken = readFileSync(path.join(directory, "state", "admin.token"), "utf8").trim();

  function transport(token: string, protocol: Protocol): Transport {
    const { hostname, port } = new URL(control.url);
    if (protocol === "wire") {
      const wire = createWireTransport({
        connect: () => tls.connect({ host: hostname, port: Number(port), ca, ALPNProtocols: [SESSION_PROTOCOL] }),
        token,
      });
      stack.defer(() => wire.close());
      return wire;
    }
    const common = {
      baseUrl: control.url,
      nodeOptions: { ca },
      interceptors: [
        (next) => (request) => {
          if (token !== "") request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
    } satisfies Partial<Parameters<typeof createGrpcTransport>[0]>;
    if (protocol === "grpc") return createGrpcTransport(common);
    return createConnectTransport({ ...common, httpVersion: protocol === "connect over h2" ? "2" : "1.1" });
  }

  const harness: Harness = {
    directory,
    get control() {
      return control;
    },
    ca,
    agent,
    log,
    get admin() {
      return harness.clients(adminToken).admin;
    },
    async token(user) {
      return (await harness.admin.createUserToken({ user, note: "test" })).secret;
    },
    clients(token, protocol = "wire") {
      const over = transport(token, protocol);
      return {
        guest: createClient(GuestService, over),
        vms: createClient(VmService, over),
        sql: createClient(SqlService, over),
        account: createClient(AccountService, over),
        admin: createClient(AdminService, over),
        health: createClient(HealthService, over),
      };
    },
    async as(user, protocol = "wire") {
      return harness.clients(await harness.token(user), protocol);
    },
    async restart() {
      await control.close();
      control = await start();
    },
    async [Symbol.asyncDispose]() {
      await stack.disposeAsync();
      await control.close();
      await agent.stop();
      rmSync(directory, { recursive: true });
    },
  };
  await until(async () => (await harness.admin.listAgents({})).agents.some(({ reachable }) => reachable));
  return harness;
}

/** Waits for what comes about by itself; fails the test when it does not. */
export async function until(condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    if (await condition()) return;
    await sleep(10);
  }
  throw new Error("it did not come about");
}

/** Everything that a caller can see of a failure. */
export async function failure(call: Promise<unknown> | AsyncIterable<unknown>): Promise<ConnectError> {
  try {
    if (Symbol.asyncIterator in call) for await (const _ of call);
    else await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call should have failed");
}
