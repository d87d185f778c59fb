// Rows as the messages of the API.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MembershipSchema, TokenSchema } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import type {
  AgentSchema,
  AuditRecordSchema,
  ProjectSchema,
  UserSchema,
} from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import type { AgentLink } from "../fleet/agent-link.ts";
import type { Registry } from "../fleet/registry.ts";
import type { AuditRow, ProjectRow, TokenRow } from "../state/schema.ts";
import type { Account } from "../state/users.ts";

export function tokenMessage(row: TokenRow): MessageInitShape<typeof TokenSchema> {
  return {
    id: row.id,
    user: row.user_name,
    note: row.note,
    createdMs: BigInt(row.created_ms),
    expiresMs: BigInt(row.expires_ms),
    revokedMs: BigInt(row.revoked_ms),
    lastUsedMs: BigInt(row.last_used_ms),
  };
}

export function membershipsMessage(account: Account): MessageInitShape<typeof MembershipSchema>[] {
  return [...account.memberships].map(([project, role]) => ({ project, role }));
}

export function userMessage(account: Account): MessageInitShape<typeof UserSchema> {
  return {
    name: account.name,
    operator: account.operator,
    memberships: membershipsMessage(account),
    createdMs: BigInt(account.createdMs),
  };
}

export function projectMessage(row: ProjectRow): MessageInitShape<typeof ProjectSchema> {
  return { name: row.name, description: row.description, createdMs: BigInt(row.created_ms) };
}

export function agentMessage(link: AgentLink, registry: Registry): MessageInitShape<typeof AgentSchema> {
  return {
    name: link.name,
    address: link.address,
    reachable: link.transport !== undefined,
    problem: link.problem || link.leftOut || registry.problemOf(link.name),
    version: link.description?.version ?? "",
    vms: registry.all().filter(({ host }) => host === link.name).length,
    warnings: link.description?.warnings ?? [],
  };
}

export function auditMessage(row: AuditRow): MessageInitShape<typeof AuditRecordSchema> {
  return {
    sequence: BigInt(row.sequence),
    timeMs: BigInt(row.time_ms),
    user: row.user_name,
    tokenId: row.token_id,
    action: row.action,
    vmUuid: row.vm_uuid,
    vmIncarnation: row.vm_incarnation,
    project: row.project,
    decision: row.decision,
    reason: row.reason,
    detail: row.detail,
    hash: row.hash,
  };
}
