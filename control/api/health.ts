import type { HealthService } from "../../proto/gen/cloudvmi/v1/health_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { AuditLog } from "../audit/log.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { State } from "../state/schema.ts";
import { countUsers } from "../state/users.ts";
import { version } from "../version.ts";
import type { Session } from "./gate.ts";

export interface HealthOptions {
  readonly fleet: Fleet;
  readonly state: State;
  readonly audit: AuditLog;
}

/** Agents that can't be reached are counted, and are no reason not to be ready: the others' VMs can be asked. */
export function healthService({ fleet, state, audit }: HealthOptions): Implementation<typeof HealthService, Session> {
  /** Nobody can be authenticated without the database, and nothing is answered without the trail. */
  async function isReady(): Promise<boolean> {
    if (audit.problem !== undefined) return false;
    return countUsers(state).then(
      () => true,
      () => false,
    );
  }

  return {
    async check() {
      const links = fleet.links();
      const reachable = links.filter(({ transport }) => transport !== undefined).length;
      return { ready: await isReady(), version, agents: links.length, agentsReachable: reachable };
    },
  };
}
