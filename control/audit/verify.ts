import { setImmediate as immediate } from "node:timers/promises";
import type { AuditStore } from "../state/schema.ts";
import { type AuditHead, chainHash, genesis } from "./record.ts";

export interface Verification {
  readonly intact: boolean;
  readonly records: number;
  /** The first sequence that does not fit; 0 when all do. */
  readonly brokenAt: number;
  /** Empty when all fits. */
  readonly problem: string;
  readonly head: AuditHead;
}

/** Looked at in one turn of the event loop: some 3 ms. The trail has millions of records, and calls go on meanwhile. */
const page = 200;

/**
 * Recomputes the chain from its first record. Without an anchor (a record noted elsewhere) a tail that has been cut
 * off does not show: what is left is a whole chain.
 */
export async function verify(store: AuditStore, anchor?: AuditHead): Promise<Verification> {
  let head: AuditHead = { sequence: 0, hash: genesis };
  let records = 0;
  const broken = (brokenAt: number, problem: string) => ({ intact: false, records, brokenAt, problem, head });
  for (;;) {
    const rows = await store
      .selectFrom("audit")
      .selectAll()
      .where("sequence", ">", head.sequence)
      .orderBy("sequence")
      .limit(page)
      .execute();
    for (const { hash, ...record } of rows) {
      const expected = head.sequence + 1;
      if (record.sequence !== expected) {
        return broken(expected, `record ${expected} is missing: the next one is ${record.sequence}`);
      }
      if (chainHash(head.hash, record) !== hash) {
        return broken(expected, `record ${expected} does not match its hash: it, or its hash, has been changed`);
      }
      if (anchor?.sequence === expected && anchor.hash !== hash) {
        return broken(expected, `record ${expected} is not the one of the anchor: the trail has been written anew`);
      }
      records++;
      head = { sequence: record.sequence, hash };
    }
    if (rows.length < page) break;
    await immediate();
  }
  if (anchor !== undefined && anchor.sequence > head.sequence) {
    return broken(
      head.sequence + 1,
      `the trail ends at ${head.sequence}, before the anchor ${anchor.sequence}: its end has been cut off`,
    );
  }
  return { intact: true, records, brokenAt: 0, problem: "", head };
}
