import type { AuditLog } from "../audit/log.ts";
import type { AuthFailure } from "../auth/authenticator.ts";

export interface FailureRecorder {
  /** Resolves when it is on the disk, or has been counted for the record that closes the second. */
  record(failure: AuthFailure, tokenId: string, user: string): Promise<void>;
  close(): void;
}

const perSecond = 20;

/**
 * Failed authentications, on the record. Anyone can cause them, so beyond some a second only their number is kept:
 * a stranger must not be able to fill the disk.
 */
export function createFailureRecorder(audit: AuditLog): FailureRecorder {
  let recorded = 0;
  let unrecorded = 0;
  let timer: NodeJS.Timeout | undefined;

  function append(reason: string, tokenId: string, user: string, detail: string): Promise<void> {
    return audit.append({
      time_ms: Date.now(),
      user_name: user,
      token_id: tokenId,
      action: "authenticate",
      vm_uuid: "",
      vm_incarnation: "",
      project: "",
      decision: "deny",
      reason,
      detail,
    });
  }

  function endSecond(): void {
    timer = undefined;
    const more = unrecorded;
    recorded = 0;
    unrecorded = 0;
    // A trail that can't be written fails every call; this one has nobody to tell.
    if (more > 0) append("several", "", "", JSON.stringify({ more })).catch(() => {});
  }

  return {
    async record(failure, tokenId, user) {
      timer ??= setTimeout(endSecond, 1000).unref();
      if (recorded >= perSecond) {
        unrecorded++;
        return;
      }
      recorded++;
      await append(failure, tokenId, user, "{}");
    },
    close() {
      clearTimeout(timer);
      endSecond();
    },
  };
}
