import type { HealthService } from "../../proto/gen/cloudvmi/v1/vm_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { Fleet } from "../fleet/fleet.ts";
import { version } from "../version.ts";
import type { Session } from "./gate.ts";

export function healthService(fleet: Fleet): Implementation<typeof HealthService, Session> {
  return {
    async check() {
      const links = fleet.links();
      const reachable = links.filter(({ transport }) => transport !== undefined).length;
      return { ready: true, version, agents: links.length, agentsReachable: reachable };
    },
  };
}
