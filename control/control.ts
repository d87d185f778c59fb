import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { AccountService } from "../proto/gen/cloudvmi/v1/account_pb.ts";
import { AdminService } from "../proto/gen/cloudvmi/v1/admin_pb.ts";
import { GuestService } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { HealthService } from "../proto/gen/cloudvmi/v1/health_pb.ts";
import { SqlService } from "../proto/gen/cloudvmi/v1/sql_pb.ts";
import { VmService } from "../proto/gen/cloudvmi/v1/vm_pb.ts";
import { createRoutes } from "../wire/index.ts";
import { accountService } from "./api/account.ts";
import { adminService } from "./api/admin.ts";
import { createCalls } from "./api/calls.ts";
import { recordRefusedClaim } from "./api/claims.ts";
import { createGate, type Gate, type Session } from "./api/gate.ts";
import { guestService } from "./api/guest.ts";
import { healthService } from "./api/health.ts";
import { requestLimits } from "./api/request-limits.ts";
import { sqlService } from "./api/sql.ts";
import { vmService } from "./api/vms.ts";
import { openAuditLog } from "./audit/log.ts";
import { createAuthenticator } from "./auth/authenticator.ts";
import { applyConfig, bootstrap } from "./bootstrap.ts";
import { ensureServerCertificate, type KeyPair } from "./certificates.ts";
import { ConfigError, type ControlConfig } from "./config.ts";
import { readAgentTls } from "./fleet/address.ts";
import { openFleet } from "./fleet/fleet.ts";
import { createLog, type Log } from "./log.ts";
import { loadPolicies } from "./policy/engine.ts";
import { createPolicy } from "./policy/policy.ts";
import { startServer } from "./server.ts";
import { openState } from "./state/database.ts";
import { version } from "./version.ts";

export interface RunningControl extends AsyncDisposable {
  /** https://host:port, for clients. */
  readonly url: string;
  /** Lets calls under way end, for up to 10 s, then ends everything. */
  close(): Promise<void>;
}

/** Calls under way have this long to end when the service is told to. */
const graceMs = 10_000;
/** Idle connections are kept for clients that ask again within minutes. */
const connectionTimes = { openMs: 10_000, requestMs: 60_000, idleMs: 300_000 };
/** Changes made by another process, such as an operator's tool on the database, end calls under way after this time. */
const reviewEveryMs = 5_000;
/** How often the head of the audit trail goes to the log, where it serves as an anchor against a cut-off tail. */
const anchorEveryMs = 3_600_000;

/** Starts the public service. Throws ConfigError, PolicyError or what the system says (a port in use). */
export async function startControl(config: ControlConfig, log: Log = createLog()): Promise<RunningControl> {
  const opened = new AsyncDisposableStack();
  try {
    const policy = createPolicy(loadPolicies(config.policies));
    const agentTls = readFiles("agent_tls", config.agentTls && (() => readAgentTls(config.agentTls!)));
    const state = opened.adopt(await openState(config.state), (each) => each.destroy());
    const audit = opened.adopt(await openAuditLog(config.state), (each) => each.close());
    const calls = createCalls(config.limits);
    // What is decided on calls hangs on what is opened before there can be any.
    let gate: Gate | undefined;
    const authenticator = createAuthenticator(state, {
      maxTokens: config.maxTokens,
      onRevoked: (tokenId) => gate?.endToken(tokenId, "revoked"),
    });
    await bootstrap(state, authenticator, config.state, log);
    await applyConfig(state, config);
    const fleet = opened.adopt(
      await openFleet({
        state,
        agents: config.agents,
        tls: agentTls,
        log,
        onChange(uuid) {
          policy.forget(uuid);
          gate?.reviewVm(uuid);
        },
        onRefused: (claim) => recordRefusedClaim(audit, claim),
      }),
      (each) => each.close(),
    );
    gate = opened.adopt(createGate({ authenticator, policy, audit, registry: fleet.registry, calls }), (each) =>
      each.close(),
    );
    const { reviewUser } = gate;
    const reviews = setInterval(() => {
      reviewUser().catch((error: Error) => log.warn("calls not reviewed", { problem: error.message }));
    }, reviewEveryMs).unref();
    opened.defer(() => clearInterval(reviews));
    const routes = createRoutes<Session>(requestLimits)
      .add(HealthService, healthService({ fleet, state, audit }))
      .add(GuestService, guestService(gate, fleet))
      .add(SqlService, sqlService(gate, fleet))
      .add(VmService, vmService(gate))
      .add(AccountService, accountService(gate, authenticator))
      .add(AdminService, adminService({ gate, state, authenticator, fleet, audit }));
    const keyPair =
      readFiles("tls", config.tls && (() => readKeyPair(config.tls!))) ??
      (await ensureServerCertificate(config.state, config.listen.host));
    const server = await startServer({
      listen: config.listen,
      keyPair,
      routes,
      gate,
      log,
      connections: { ...connectionTimes, max: config.maxConnections },
    });

    const noteAnchor = () => {
      const { sequence, hash } = audit.head();
      log.info("audit trail", { sequence, hash });
    };
    const anchors = setInterval(noteAnchor, anchorEveryMs).unref();
    opened.defer(() => {
      clearInterval(anchors);
      noteAnchor();
    });
    log.info("control started", { version, url: server.url });
    noteAnchor();

    const idle = async () => {
      const deadline = Date.now() + graceMs;
      while (calls.count > 0 && Date.now() < deadline) await sleep(10);
    };
    let closing: Promise<void> | undefined;
    const close = () => {
      closing ??= (async () => {
        await server.close(idle);
        await opened.disposeAsync();
        log.info("control stopped");
      })();
      return closing;
    };
    return { url: server.url, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

function readKeyPair(files: { certificate: string; key: string }): KeyPair {
  return { certificate: readFileSync(files.certificate, "utf8"), key: readFileSync(files.key, "utf8") };
}

function readFiles<T>(section: string, read: (() => T) | undefined): T | undefined {
  try {
    return read?.();
  } catch (error) {
    throw new ConfigError(`[${section}]: ${(error as Error).message}`);
  }
}
