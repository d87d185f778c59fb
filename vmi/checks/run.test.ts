import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { GuestError } from "../errors.ts";
import { attach } from "../guest.ts";
import { tooLarge } from "../tables/columns.ts";
import { processes } from "../tables/processes.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import type { Check, CheckContext, Finding } from "./check.ts";
import { checks } from "./index.ts";
import { runChecks } from "./run.ts";

const { kernel } = attach(miniGuest().kernel.ram.mapped());
const run = (all: readonly Check[]) => runChecks(all, kernel, new Budget());

const finding = (identity: string): Finding => ({
  what: `something ${identity}`,
  where: "somewhere",
  evidence: "seen",
  expected: "nothing",
  identity,
});

function check(look: (context: CheckContext, pass: number) => void, name = "made-up"): Check {
  let passes = 0;
  const spec = { name, severity: "high", cost: "walk", compares: "", misses: "", confirm: "", reads: [] } as const;
  return { ...spec, look: (context) => look(context, ++passes) };
}

test("a finding counts when both looks see it", () => {
  const torn = check(({ report }, pass) => {
    report(finding("stays"));
    report(finding(`only in look ${pass}`));
  });
  const { findings, retried, notes } = run([torn]);
  assert.deepEqual(
    findings.map(({ identity, severity, check }) => [identity, severity, check]),
    [["stays", "high", torn]],
  );
  assert.deepEqual([retried, notes], [1, []]);
});

test("only those that found something look again, and share anew what they share", () => {
  const passes = new Map<string, number>();
  const made: object[] = [];
  const list = () => {
    const value = {};
    made.push(value);
    return value;
  };
  const counting = (name: string, finds: boolean) =>
    check((context) => {
      passes.set(name, (passes.get(name) ?? 0) + 1);
      assert.equal(context.shared(list), made.at(-1));
      if (finds) context.report({ ...finding("x"), severity: "info" });
    }, name);
  const { findings } = run([counting("quiet", false), counting("finds", true), counting("finds-too", true)]);
  assert.deepEqual(Object.fromEntries(passes), { quiet: 1, finds: 2, "finds-too": 2 });
  assert.equal(made.length, 2);
  assert.deepEqual(
    findings.map(({ severity }) => severity),
    ["info", "info"],
  );
});

test("what can't be looked at is said, and the other checks look", () => {
  const lacking = check(() => {
    throw new GuestError("unsupported-kernel", "the kernel has no such list");
  }, "lacking");
  const broken = check(({ incomplete }) => incomplete("the list has no end"), "broken");
  const { findings, notes } = run([lacking, broken, check(({ report }) => report(finding("x")))]);
  assert.equal(findings.length, 1);
  assert.deepEqual(notes, ["lacking: the kernel has no such list", "broken: the list has no end"]);
});

test("a check that is endless is named, and leaves the others what they need", () => {
  const endless = Array.from({ length: 5 }, (_, i) =>
    check(({ budget, report }) => {
      report(finding(`${i}`));
      for (;;) budget.spend();
    }, `endless-${i}`),
  );
  const large = check(({ report }) => {
    report(finding("of a part"));
    throw tooLarge();
  }, "large");
  // Of 20 million steps 9 are for a look, half of them in 8 parts.
  const thorough = check(({ budget, report }) => {
    for (let i = 0; i < 500_000; i++) budget.spend();
    report(finding("x"));
  }, "thorough");
  const alone = check(({ budget, report }) => {
    for (let i = 0; i < 4_000_000; i++) budget.spend();
    report(finding("y"));
  }, "alone");
  const budget = new Budget(60_000, 20_000_000);
  const { findings, notes } = runChecks([alone, ...endless, large, thorough], kernel, budget);
  assert.deepEqual(
    findings.map(({ identity }) => identity),
    ["y", "0", "1", "2", "3", "4", "of a part", "x"],
  );
  assert.deepEqual(
    notes.map((note) => note.replace(/: what it reads of the guest is more than one check may: .*$/, "")),
    [...endless, large].map(({ name }) => name),
  );
  // Enough to tell of it.
  assert.ok(budget.left > 1_900_000, `${budget.left}`);
});

test("time that ran out is all checks'", () => {
  const late = check(({ budget }) => budget.spend(1 << 16));
  assert.throws(() => runChecks([late], kernel, new Budget(-1)), { kind: "deadline" });
});

test("texts are printable and bounded, and so is the number of findings", () => {
  const loud = check(({ report }) => {
    report({ ...finding("x"), what: `\u001b[31m\u202e é ${"y".repeat(10_000)}` });
    for (let i = 0; i < 5000; i++) report(finding(`${i}`));
  });
  const { findings, notes } = run([loud]);
  assert.equal(findings.length, 1000);
  assert.match(findings[0]!.what, /^\\u\{1b\}\[31m\\u\{202e\} \\u\{e9\} y+$/);
  assert.ok(findings[0]!.what.length < 4100);
  assert.deepEqual(notes, ["made-up: more than 1000 findings"]);
});

test("where there are too many findings, the mildest give way", () => {
  const severities = ["info", "high", "low", "critical", "medium"] as const;
  const loud = check(({ report }) => {
    for (const severity of severities) {
      for (let i = 0; i < 600; i++) report({ ...finding(`${severity} ${i}`), severity });
    }
    report({ ...finding("critical 0"), severity: "info" });
  });
  const { findings, notes } = run([loud]);
  const of = (wanted: string) => findings.filter(({ severity }) => severity === wanted);
  assert.deepEqual(
    severities.map((severity) => of(severity).length),
    [0, 400, 0, 600, 0],
  );
  assert.equal(of("high").at(-1)!.identity, "high 399", "the later ones");
  assert.deepEqual(notes, ["made-up: more than 1000 findings"]);
});

test("a check reads tables as rows", () => {
  const seen: unknown[] = [];
  run([check(({ rows }) => void seen.push(...rows(processes, { columns: ["pid", "name"] })))]);
  assert.deepEqual(seen[0], { pid: 1, name: "init" });
});

test("every check of the catalogue has a name of its own, and explains itself", () => {
  assert.equal(new Set(checks.map(({ name }) => name)).size, checks.length);
  for (const { name, compares, misses, confirm, reads } of checks) {
    assert.match(name, /^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/);
    for (const text of [compares, misses, confirm]) assert.match(text, /^[A-Z].{20,}[.)]$/, name);
    assert.ok(reads.length > 0, name);
  }
});
