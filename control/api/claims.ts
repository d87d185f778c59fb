import type { AuditLog } from "../audit/log.ts";
import type { RefusedClaim } from "../fleet/registry.ts";

/** An agent that announces what another has is on the record: it may be an attempt to answer for that VM. */
export function recordRefusedClaim(audit: AuditLog, { uuid, agent, holder }: RefusedClaim): void {
  const recorded = audit.append({
    time_ms: Date.now(),
    user_name: "",
    token_id: "",
    action: "claim",
    vm_uuid: uuid,
    vm_incarnation: "",
    project: "",
    decision: "deny",
    reason: `agent ${holder} has it`,
    detail: JSON.stringify({ agent }),
  });
  // A trail that can't be written fails every call; this one has nobody to tell.
  recorded.catch(() => {});
}
