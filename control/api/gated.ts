import type { CallContext } from "../../wire/index.ts";
import type { SystemAction } from "../action.ts";
import type { ActiveCall } from "./calls.ts";
import type { Gate, Session } from "./gate.ts";
import type { Detail } from "./rpc.ts";

/** A method on the service itself: decided and on the record before it does anything. */
export function gated<I, O>(
  gate: Gate,
  rpc: { readonly action: SystemAction; detail(request: I): Detail },
  perform: (request: I, call: ActiveCall) => Promise<O>,
): (request: I, context: CallContext<Session>) => Promise<O> {
  return async (request, context) => {
    using call = await gate.enter(context);
    await gate.system(call, rpc.action, rpc.detail(request));
    return await perform(request, call);
  };
}
