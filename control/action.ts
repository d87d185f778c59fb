import type { Role } from "./state/schema.ts";

/**
 * Everything that can be asked of the service: the one door to a guest. Policy, audit and limits are total over it,
 * so an action that lacks a row anywhere is a type error. RPCs are mapped to actions in `api/rpc.ts`.
 */
export type Action = VmAction | SystemAction;

/** What is done to one VM. */
export type VmAction =
  | "list"
  | "table"
  | "read"
  | "stream"
  | "scan"
  | "translate"
  | "symbols"
  | "registers"
  | "pause"
  | "resume";

/** What is done to the service itself. */
export type SystemAction =
  | "account"
  | "sql"
  | "ownTokens"
  | "manageProjects"
  | "manageUsers"
  | "manageTokens"
  | "manageOwners"
  | "manageAgents"
  | "listAllVms"
  | "readAudit";

interface Rules {
  /**
   * `read`: the guest may be read while the audit record is on its way to the disk, but nothing is answered before
   * it is there. `act`: nothing happens before it is there.
   */
  readonly effect: "read" | "act";
  /** Calls of one user at once, below the limit over all actions. */
  readonly concurrent?: number;
  /** How long a call lasts at most, where the limits of all calls are too short for it. */
  readonly timeoutMs?: number;
}

interface VmRules extends Rules {
  /** The least role that the shipped policies ask for; named in refusals. */
  readonly role: Role;
}

export const vmActions: { readonly [A in VmAction]: VmRules } = {
  list: { role: "viewer", effect: "read" },
  table: { role: "viewer", effect: "read" },
  read: { role: "analyst", effect: "read" },
  // A host's whole memory takes as long as its reader's line; who stops reading is cut off by the session.
  stream: { role: "analyst", effect: "read", concurrent: 4, timeoutMs: 6 * 3_600_000 },
  // As long as the agent lets one take, and what it takes to tell so.
  scan: { role: "analyst", effect: "read", concurrent: 4, timeoutMs: 3_610_000 },
  translate: { role: "analyst", effect: "read" },
  symbols: { role: "analyst", effect: "read" },
  registers: { role: "analyst", effect: "read" },
  pause: { role: "responder", effect: "act" },
  resume: { role: "responder", effect: "act" },
};

export const systemActions: { readonly [A in SystemAction]: Rules } = {
  account: { effect: "read" },
  // The statement; what it reads of each VM is decided on by the table's own action.
  sql: { effect: "read", concurrent: 4 },
  ownTokens: { effect: "act" },
  manageProjects: { effect: "act" },
  manageUsers: { effect: "act" },
  manageTokens: { effect: "act" },
  manageOwners: { effect: "act" },
  manageAgents: { effect: "act" },
  listAllVms: { effect: "read" },
  readAudit: { effect: "read" },
};

export function isVmAction(action: string): action is VmAction {
  return Object.hasOwn(vmActions, action);
}

export function rulesOf(action: Action): Rules {
  return isVmAction(action) ? vmActions[action] : systemActions[action];
}
