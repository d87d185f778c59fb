import { createHash } from "node:crypto";
import type { AuditRow } from "../state/schema.ts";

/** What is recorded of a decision; the writer adds sequence and hash. */
export type AuditEntry = Omit<AuditRow, "sequence" | "hash">;

/** The newest record. Kept elsewhere it is an anchor, with which a cut-off tail shows. */
export interface AuditHead {
  readonly sequence: number;
  readonly hash: string;
}

/** The hash before the first record. */
export const genesis = "00".repeat(32);

/** Fields in the order in which they are hashed. Total over the row: a new column must be hashed too. */
const hashed = {
  sequence: true,
  time_ms: true,
  user_name: true,
  token_id: true,
  action: true,
  vm_uuid: true,
  vm_incarnation: true,
  project: true,
  decision: true,
  reason: true,
  detail: true,
} satisfies { [K in Exclude<keyof AuditRow, "hash">]: true };
const hashedFields = Object.keys(hashed) as (keyof typeof hashed)[];

/**
 * SHA-256, hexadecimal, over the previous record's hash and each field as its length in bytes (u32, big-endian) and
 * its UTF-8 text: no two different records have the same encoding.
 */
export function chainHash(previous: string, record: Omit<AuditRow, "hash">): string {
  const hash = createHash("sha256").update("cloudvmi-audit-1\0").update(Buffer.from(previous, "hex"));
  const length = Buffer.alloc(4);
  for (const field of hashedFields) {
    const text = Buffer.from(String(record[field]), "utf8");
    length.writeUInt32BE(text.length);
    hash.update(length).update(text);
  }
  return hash.digest("hex");
}
