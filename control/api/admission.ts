// Who calls, before anything of a request is looked at: to decode a stranger's would be to work for him.
import type { DescMethod } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { pathOf } from "../../wire/index.ts";
import { bearerToken, parseCredential } from "../auth/token.ts";
import type { Gate, Session } from "./gate.ts";
import { maxRequestBytes, maxStrangerBytes } from "./request-limits.ts";
import { isOpen } from "./rpc.ts";

/** What is asked of each call: a token that is valid now, unless anyone may call the method. Throws Unauthenticated. */
export async function admit(gate: Gate, { credential }: Session, method: DescMethod): Promise<void> {
  if (!isOpen(pathOf(method))) await gate.authenticate(credential);
}

/** The session of one HTTP request, which has been admitted. Throws Unauthenticated. */
export async function admitHttp(gate: Gate, { requestHeader, method }: HandlerContext): Promise<Session> {
  const session = { credential: parseCredential(bearerToken(requestHeader.get("authorization"))) };
  await admit(gate, session, method);
  return session;
}

/** The largest request that a session may send over the session protocol, in bytes. */
export function largestRequest({ credential }: Session): number {
  return credential.kind === "missing" ? maxStrangerBytes : maxRequestBytes;
}
