import type { AccountService } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { Authenticator } from "../auth/authenticator.ts";
import type { Gate, Session } from "./gate.ts";
import { gated } from "./gated.ts";
import { membershipsMessage, tokenMessage } from "./messages.ts";
import { accountRpcs } from "./rpc.ts";

export function accountService(
  gate: Gate,
  authenticator: Authenticator,
): Implementation<typeof AccountService, Session> {
  return {
    whoAmI: gated(gate, accountRpcs.whoAmI, async (_request, { principal: { account, tokenId, tokenExpiresMs } }) => ({
      user: account.name,
      operator: account.operator,
      memberships: membershipsMessage(account),
      tokenId,
      tokenExpiresMs: BigInt(tokenExpiresMs),
    })),
    createToken: gated(gate, accountRpcs.createToken, async ({ note, lifetimeHours }, { principal }) => {
      const { row, text } = await authenticator.createToken(principal.account.name, note, lifetimeHours, principal);
      return { token: tokenMessage(row), secret: text };
    }),
    listTokens: gated(gate, accountRpcs.listTokens, async (_request, { principal }) => ({
      tokens: (await authenticator.listTokens(principal.account.name)).map(tokenMessage),
    })),
    revokeToken: gated(gate, accountRpcs.revokeToken, async ({ id }, { principal }) => {
      await authenticator.revokeToken(id, principal.account.name);
      return {};
    }),
  };
}
