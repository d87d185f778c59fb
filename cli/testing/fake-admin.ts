import { Code, ConnectError } from "@connectrpc/connect";
import type { AdminService } from "../../proto/gen/cloudvmi/v1/admin_pb.ts";
import type { Implementation } from "../../wire/index.ts";

const onlyOperators = () => new ConnectError("only operators may do this", Code.PermissionDenied);

/** @param moved is told which VM was given to which agent, as `uuid agent` */
export function adminService(moved: string[]): Partial<Implementation<typeof AdminService, string>> {
  return {
    listAudit: async ({ newest, limit }) => ({
      records: [
        { sequence: 7n, user: "alice", action: "table", decision: "allow", detail: JSON.stringify({ newest, limit }) },
      ],
    }),
    verifyAudit: async ({ anchorSequence }) => ({
      intact: anchorSequence === 0n,
      records: 7n,
      brokenAt: 3n,
      headSequence: 7n,
      headHash: "0".repeat(64),
    }),
    async listAllVms() {
      throw onlyOperators();
    },
    async moveVm({ vmUuid, agent }) {
      moved.push(`${vmUuid} ${agent}`);
      return {};
    },
  };
}
