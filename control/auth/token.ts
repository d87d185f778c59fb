import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** A bearer token: `cvmi_<id>_<secret>`. The id may be shown and logged, the secret never. */
export interface NewToken {
  readonly id: string;
  readonly text: string;
  readonly secretHash: string;
}

export function newToken(): NewToken {
  const id = randomBytes(8).toString("hex");
  const secret = randomBytes(32).toString("base64url");
  return { id, text: `cvmi_${id}_${secret}`, secretHash: hashSecret(secret) };
}

/** What a caller presented, without the secret itself, so that it can be kept for the life of a connection. */
export type Credential =
  | { readonly kind: "missing" }
  | { readonly kind: "malformed" }
  | { readonly kind: "token"; readonly id: string; readonly secretHash: string };

export function parseCredential(text: string): Credential {
  if (text === "") return { kind: "missing" };
  const match = /^cvmi_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/.exec(text);
  if (match === null) return { kind: "malformed" };
  return { kind: "token", id: match[1]!, secretHash: hashSecret(match[2]!) };
}

/** The token of an `Authorization: Bearer` header; empty when there is none. */
export function bearerToken(header: string | null): string {
  return header === null ? "" : header.replace(/^Bearer +/i, "").trim();
}

export function sameHash(left: string, right: string): boolean {
  return timingSafeEqual(Buffer.from(left, "hex"), Buffer.from(right, "hex"));
}

function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
