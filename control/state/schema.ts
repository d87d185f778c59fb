// The rows as they are stored. Times are milliseconds since 1970; 0 means never. Flags are 0 or 1, which every
// database understands.
import type { Kysely } from "kysely";

/** From least to most: each may do all that the one before it may. */
export const roles = ["viewer", "analyst", "responder", "owner"] as const;
export type Role = (typeof roles)[number];

export function isRole(text: string): text is Role {
  return (roles as readonly string[]).includes(text);
}

export interface ProjectRow {
  name: string;
  description: string;
  created_ms: number;
}

export interface UserRow {
  name: string;
  operator: number;
  created_ms: number;
}

export interface MembershipRow {
  user_name: string;
  project: string;
  role: Role;
}

export interface TokenRow {
  id: string;
  user_name: string;
  /** SHA-256 of the secret, hexadecimal: the secret itself is 256 random bits, so no slow hash is needed. */
  secret_hash: string;
  note: string;
  created_ms: number;
  expires_ms: number;
  revoked_ms: number;
  last_used_ms: number;
  /** The token with which its user made it: it does not outlive that one. Empty: an operator's made it. */
  parent: string;
}

export interface AgentRow {
  name: string;
  address: string;
  created_ms: number;
}

/** Which project owns a VM, as an operator said. */
export interface OwnerRow {
  vm_uuid: string;
  project: string;
}

/** Which agent has a VM. */
export interface BindingRow {
  vm_uuid: string;
  agent: string;
  bound_ms: number;
}

export interface StateTables {
  projects: ProjectRow;
  users: UserRow;
  memberships: MembershipRow;
  tokens: TokenRow;
  agents: AgentRow;
  owners: OwnerRow;
  bindings: BindingRow;
}

/** One link of the audit chain. */
export interface AuditRow {
  sequence: number;
  time_ms: number;
  user_name: string;
  token_id: string;
  action: string;
  vm_uuid: string;
  vm_incarnation: string;
  project: string;
  decision: "allow" | "deny";
  reason: string;
  detail: string;
  hash: string;
}

export interface AuditTables {
  audit: AuditRow;
}

export type State = Kysely<StateTables>;
export type AuditStore = Kysely<AuditTables>;
