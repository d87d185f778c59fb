import type { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { AuditLog } from "../audit/log.ts";
import type { Authenticator } from "../auth/authenticator.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { invalid, parseUuid } from "../problem.ts";
import { createProject, listProjects, setOwner } from "../state/projects.ts";
import type { State } from "../state/schema.ts";
import { createUser, listUsers, setMembership } from "../state/users.ts";
import type { Gate, Session } from "./gate.ts";
import { gated } from "./gated.ts";
import { agentMessage, auditMessage, projectMessage, tokenMessage, userMessage } from "./messages.ts";
import { adminRpcs } from "./rpc.ts";

export interface AdminOptions {
  readonly gate: Gate;
  readonly state: State;
  readonly authenticator: Authenticator;
  readonly fleet: Fleet;
  readonly audit: AuditLog;
}

const maxAuditRecords = 10_000;

/** The operator's side. Every method is decided and on the record before it does anything. */
export function adminService({
  gate,
  state,
  authenticator,
  fleet,
  audit,
}: AdminOptions): Implementation<typeof AdminService, Session> {
  return {
    createProject: gated(gate, adminRpcs.createProject, async ({ name, description }) => {
      const project = await createProject(state, name, description);
      await fleet.reloadOwnership();
      return { project: projectMessage(project) };
    }),
    listProjects: gated(gate, adminRpcs.listProjects, async () => ({
      projects: (await listProjects(state)).map(projectMessage),
    })),
    createUser: gated(gate, adminRpcs.createUser, async ({ name, operator }) => ({
      user: userMessage(await createUser(state, name, operator)),
    })),
    listUsers: gated(gate, adminRpcs.listUsers, async () => ({ users: (await listUsers(state)).map(userMessage) })),
    setMembership: gated(gate, adminRpcs.setMembership, async ({ user, project, role }) => {
      await setMembership(state, user, project, role);
      authenticator.forget();
      await gate.reviewUser(user);
      return {};
    }),
    createUserToken: gated(gate, adminRpcs.createUserToken, async ({ user, note, lifetimeHours }, { principal }) => {
      const { row, text } = await authenticator.createToken(user, note, lifetimeHours, principal);
      return { token: tokenMessage(row), secret: text };
    }),
    listUserTokens: gated(gate, adminRpcs.listUserTokens, async ({ user }) => ({
      tokens: (await authenticator.listTokens(user)).map(tokenMessage),
    })),
    revokeUserToken: gated(gate, adminRpcs.revokeUserToken, async ({ id }) => {
      await authenticator.revokeToken(id);
      return {};
    }),
    setOwner: gated(gate, adminRpcs.setOwner, async ({ vmUuid, project }) => {
      await setOwner(state, requireUuid(vmUuid), project);
      await fleet.reloadOwnership();
      return {};
    }),
    addAgent: gated(gate, adminRpcs.addAgent, async ({ name, address }) => ({
      agent: agentMessage(await fleet.addAgent(name, address), fleet.registry),
    })),
    listAgents: gated(gate, adminRpcs.listAgents, async () => ({
      agents: fleet.links().map((link) => agentMessage(link, fleet.registry)),
    })),
    removeAgent: gated(gate, adminRpcs.removeAgent, async ({ name }) => {
      await fleet.removeAgent(name);
      return {};
    }),
    moveVm: gated(gate, adminRpcs.moveVm, async ({ vmUuid, agent }) => {
      await fleet.moveVm(requireUuid(vmUuid), agent);
      return {};
    }),
    listAllVms: gated(gate, adminRpcs.listAllVms, async () => ({ vms: fleet.registry.all().map(({ vm }) => vm) })),
    listAudit: gated(gate, adminRpcs.listAudit, async ({ after, limit, newest }) => {
      if (limit > maxAuditRecords)
        throw invalid(`limit ${limit} is over ${maxAuditRecords}: ask for less, then for those after`);
      const rows = await audit.list({ after: Number(after), limit: limit || 100, newest });
      return { records: rows.map(auditMessage) };
    }),
    verifyAudit: gated(gate, adminRpcs.verifyAudit, async ({ anchorSequence, anchorHash }) => {
      const anchor = { sequence: Number(anchorSequence), hash: anchorHash.toLowerCase() };
      if ((anchor.sequence === 0) !== (anchor.hash === ""))
        throw invalid("an anchor is a sequence and its hash: give both");
      if (anchor.hash !== "" && !/^[0-9a-f]{64}$/.test(anchor.hash))
        throw invalid("the anchor's hash is not 64 hexadecimal digits");
      const result = await audit.verify(anchor.sequence === 0 ? undefined : anchor);
      return {
        intact: result.intact,
        records: BigInt(result.records),
        brokenAt: BigInt(result.brokenAt),
        problem: result.problem,
        headSequence: BigInt(result.head.sequence),
        headHash: result.head.hash,
      };
    }),
  };
}

function requireUuid(text: string): string {
  const uuid = parseUuid(text);
  if (uuid === undefined) throw invalid(`${JSON.stringify(text)} is no UUID of a VM: list all VMs to see them`);
  return uuid;
}
