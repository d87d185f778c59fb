import type { AccountService } from "../../proto/gen/cloudvmi/v1/account_pb.ts";
import type { Implementation } from "../../wire/index.ts";
import type { Authenticator } from "../auth/authenticator.ts";
import type { Gate, Session } from "./gate.ts";
import { membershipsMessage, tokenMessage } from "./messages.ts";
import { accountRpcs } from "./rpc.ts";

export function accountService(
  gate: Gate,
  authenticator: Authenticator,
): Implementation<typeof AccountService, Session> {
  return {
    async whoAmI(_request, context) {
      using call = await gate.enter(context);
      await gate.system(call, accountRpcs.whoAmI.action, accountRpcs.whoAmI.detail());
      const { account, tokenId, tokenExpiresMs } = call.principal;
      return {
        user: account.name,
        operator: account.operator,
        memberships: membershipsMessage(account),
        tokenId,
        tokenExpiresMs: BigInt(tokenExpiresMs),
      };
    },
    async createToken(request, context) {
      using call = await gate.enter(context);
      await gate.system(call, accountRpcs.createToken.action, accountRpcs.createToken.detail(request));
      const user = call.principal.account.name;
      const { row, text } = await authenticator.createToken(user, request.note, request.lifetimeHours);
      return { token: tokenMessage(row), secret: text };
    },
    async listTokens(_request, context) {
      using call = await gate.enter(context);
      await gate.system(call, accountRpcs.listTokens.action, accountRpcs.listTokens.detail());
      return { tokens: (await authenticator.listTokens(call.principal.account.name)).map(tokenMessage) };
    },
    async revokeToken(request, context) {
      using call = await gate.enter(context);
      await gate.system(call, accountRpcs.revokeToken.action, accountRpcs.revokeToken.detail(request));
      await authenticator.revokeToken(request.id, call.principal.account.name);
      return {};
    },
  };
}
