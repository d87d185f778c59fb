// Guests in which objects of every kind come and go, each with its owner in its name: no row of any table may be of two.
//
// By hand, about a minute: node_modules/.bin/node --test tests/tables/busy.test.ts (--test-name-pattern=process_open_files for one
// table, CLOUDVMI_BUSY_SECONDS=300 for a longer look)
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, type TestContext, test } from "node:test";
import { setImmediate as breathe, setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import type { GuestSpec } from "../../lab/index.ts";
import type { Guest } from "../../vmi/index.ts";
import { type Row, rowsOf, Subject } from "../engine/support.ts";
import { type Owned, owned } from "./busy.ts";

const SECONDS = Number(process.env.CLOUDVMI_BUSY_SECONDS ?? 14);
/** On a machine that has much else to do, the guests bring forth less: so much longer until it is enough to tell. */
const PATIENCE = 120;
/** Of the answers of a table so many may be incomplete: each says so. */
const INCOMPLETE = 0.15;

const variants: GuestSpec[] = [
  { kernel: "6.12", la57: false, ram: "memfd", vcpus: 2 },
  { kernel: "6.1", la57: true, ram: "anonymous", vcpus: 2 },
];

suite("busy guests, every table", { concurrency: 1 }, () => {
  for (const spec of variants) {
    suite(`Linux ${spec.kernel}, ${spec.ram}`, { concurrency: 1 }, () => checks(spec));
  }

  test("what was torn was read again", () => {
    const retried = all.reduce((sum, tally) => sum + tally.retried, 0);
    assert.ok(retried > 0, "nothing was ever begun anew: the guests were not busy enough for a test");
  });
});

/** Of both guests. */
const all: Tally[] = [];

/** What came of the reads of one table. */
interface Tally {
  reads: number;
  rows: number;
  /** Rows with an owner. */
  owned: number;
  owners: Set<number>;
  retried: number;
  incomplete: number;
  wrong: string[];
  notes: Set<string>;
}

function checks(spec: GuestSpec): void {
  let subject: Subject;
  let guest: Guest;
  const tallies = new Map<string, Tally>();

  before(async () => {
    subject = await Subject.boot({ ...spec, name: `busy-${spec.kernel}` });
    guest = await subject.attach();
    const program = readFileSync(join(import.meta.dirname, "busy.py"), "utf8");
    await subject.lab.exec(`cat > /run/busy.py <<'END-OF-PROGRAM'\n${program}\nEND-OF-PROGRAM\n`);
    await subject.lab.exec(
      "(python3 -I -S /run/busy.py 2>/run/busy.log >/dev/null &); while [ ! -e /run/busy ]; do usleep 10000; done",
    );
    await sleep(1500);
    const until = performance.now() + SECONDS * 1000;
    const latest = until + PATIENCE * 1000;
    const isEnough = () => owned.every(({ name, owners }) => tallies.get(name)!.owners.size >= owners);
    for (let now = performance.now(); now < until || (now < latest && !isEnough()); now = performance.now()) {
      for (const table of owned) {
        read(guest, table, tallies);
        // The processor is shared with the guest.
        await breathe();
      }
      await sleep(2);
    }
  });
  after(() => subject?.[Symbol.asyncDispose]());

  for (const table of owned) {
    test(table.name, (t: TestContext) => {
      const tally = tallies.get(table.name)!;
      t.diagnostic(
        `${tally.reads} reads, ${tally.owned} of ${tally.rows} rows of ${tally.owners.size} owners, ` +
          `${tally.retried} retried, ${tally.incomplete} incomplete`,
      );
      for (const note of tally.notes) t.diagnostic(note);
      assert.deepEqual(tally.wrong.slice(0, 5), [], `${tally.wrong.length} wrong`);
      assert.ok(tally.incomplete <= tally.reads * INCOMPLETE, `${tally.incomplete} of ${tally.reads} incomplete`);
      assert.ok(tally.owners.size >= table.owners, `rows of ${tally.owners.size} owners`);
    });
  }

  test("the workload had no trouble", async (t: TestContext) => {
    const log = await subject.lab.exec("sed 's/[0-9][0-9]*/N/' /run/busy.log | sort | uniq -c");
    t.diagnostic(log);
    assert.equal(log, "");
  });
}

function read(guest: Guest, table: Owned, tallies: Map<string, Tally>): void {
  let tally = tallies.get(table.name);
  if (tally === undefined) {
    tally = { reads: 0, rows: 0, owned: 0, owners: new Set(), retried: 0, incomplete: 0, wrong: [], notes: new Set() };
    tallies.set(table.name, tally);
    all.push(tally);
  }
  const answer = guest.table(table.name, table.query);
  const rows = rowsOf(answer);
  tally.reads++;
  tally.rows += rows.length;
  tally.retried += answer.retried;
  tally.incomplete += answer.incomplete ? 1 : 0;
  for (const note of answer.notes) tally.notes.add(note.replaceAll(/\d+/g, "N"));
  const seen = new Set<string>();
  const wrong = (why: string, row: Row) => tally.wrong.push(`${why}: ${inspect(row)}`);
  for (const row of rows) {
    const key = table.key.map((column) => row[column]).join();
    if (table.key.length > 0 && seen.has(key)) wrong("twice", row);
    seen.add(key);
    const owners = table.ownersOf(row);
    if (owners.length === 0) continue;
    tally.owned++;
    tally.owners.add(owners[0]!);
    const expected = typeof row.pid === "number" ? row.pid : owners[0]!;
    if (owners.some((owner) => owner !== expected)) wrong("of two", row);
  }
  for (const why of table.together?.(rows) ?? []) tally.wrong.push(why);
}
