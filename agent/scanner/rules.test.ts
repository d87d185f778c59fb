import assert from "node:assert/strict";
import { test } from "node:test";
import { declaredIn } from "./rule-names.ts";
import { BadRules, compileRules, createRuleCache } from "./rules.ts";

const file = (name: string, source: string) => ({ name, source });
const text = (rule: string, pattern: string) => `rule ${rule} { strings: $a = "${pattern}" condition: $a }`;
const bad = (...files: { name: string; source: string }[]): string => {
  try {
    compileRules(files);
  } catch (error) {
    assert.ok(error instanceof BadRules);
    return error.message;
  }
  throw new Error("they must be refused");
};

test("names of rules, whatever braces and words their texts, comments and expressions have", () => {
  const source = `import "elf" // rule no1 {
    /* global rule no2 { */ private rule one : tag1 tag2 { meta: a = "}" strings: $a = "rule no3 {" $b = /rule no4 {\\/}/i
    $c = { 7b ?? [2-4] (7d | 2f) } condition: $a or $b and filesize / 2 > 3 / 1 }
    rule two{condition: true} rule /* } */ three { condition: "a" matches /}/ }`;
  assert.deepEqual(declaredIn(source), { rules: ["one", "two", "three"], global: false });
  assert.deepEqual(declaredIn("global private rule g { condition: true }"), { rules: ["g"], global: true });
  assert.deepEqual(declaredIn("}} rule { rule"), { rules: ["rule"].slice(1), global: false });
});

test("each file is a namespace: rules of one name, and global rules that decide over their own file only", () => {
  const set = compileRules([
    file("a.yar", text("same", "one")),
    file("b.yar", text("same", "two")),
    file("c.yar", `global rule never { condition: filesize > 1000000 }\n${text("third", "one")}`),
    file("d.yar", text("fourth", "one")),
  ]);
  const found = set.scan(Buffer.from("xx one two one"));
  assert.deepEqual(
    found.map(({ namespace, rule, matches }) => [namespace, rule, matches.map(({ offset }) => offset)]).sort(),
    [
      ["a.yar", "same", [3, 11]],
      ["b.yar", "same", [7]],
      ["d.yar", "fourth", [3, 11]],
    ],
  );
});

test("tags and meta come along; part of a larger buffer is scanned in place", () => {
  const set = compileRules([
    file("m", 'rule r : t1 t2 { meta: author = "x" level = 3 strings: $b = { 41 42 } condition: $b }'),
  ]);
  const whole = Buffer.from("AB..AB..");
  const [found] = set.scan(whole.subarray(4, 6));
  assert.deepEqual(found, {
    rule: "r",
    namespace: "m",
    tags: ["t1", "t2"],
    meta: [
      { name: "author", value: "x" },
      { name: "level", value: "3" },
    ],
    matches: [{ pattern: "$b", offset: 0, length: 2 }],
  });
});

test("what is wrong is told with file, line and column; some of it when it is much", () => {
  const good = file("good.yar", text("ok", "x"));
  assert.match(
    bad(good, file("b.yar", "rule b {\n  condition: c\n}")),
    /^b\.yar:2:14: unknown identifier `c`: [^\n]+$/,
  );
  assert.match(bad(file("r", "rule r { strings: $a = /a(/ condition: $a }")), /^r:1:\d+: invalid regular expression/);
  assert.match(bad(file("i", 'include "x"\nrule a { condition: true }')), /^i:1:1: include statements not allowed/);
  assert.match(bad(file("v", 'import "vt" rule a { condition: true }')), /^v:1:1: module `vt` is not available/);
  assert.match(
    bad(file("c", 'import "cuckoo" rule a { condition: true }')),
    /^c:1:1: module `cuckoo` is not available/,
  );
  const many = Array.from({ length: 9 }, (_, i) => file(`${i}.yar`, `rule r${i} { condition: nothing }`));
  const message = bad(...many);
  assert.match(message, /^0\.yar:1:\d+: .*; 4\.yar:[^;]+; and 4 more$/);
});

test("no rules, and too many", () => {
  assert.match(bad(), /there is no rule/);
  assert.match(bad(file("e", "// nothing")), /there is no rule/);
  assert.match(bad(file("big", `${text("r", "x")}//${"x".repeat(1536 << 10)}`)), /over the limit of 1572864/);
  assert.match(bad(...Array.from({ length: 1025 }, () => file("x", ""))), /more than 1024 files/);
});

test("warnings are placed in their file", () => {
  const set = compileRules([
    file("a", `${text("a", "x")}\n\n`),
    file("b", "\nrule b { strings: $s = {00} condition: $s }"),
  ]);
  assert.deepEqual(set.warnings.length, 1);
  assert.match(set.warnings[0]!, /^b:2:\d+: slow pattern/);
});

test("a set that is used again is not compiled again; the oldest makes room", () => {
  const rulesOf = createRuleCache();
  const padded = (name: string) => [file(name, `${text("r", "x")}//${"x".repeat(800 << 10)}`)];
  const first = rulesOf(padded("1"));
  assert.equal(rulesOf(padded("1")), first);
  rulesOf(padded("2"));
  assert.equal(rulesOf(padded("1")), first);
  rulesOf(padded("3"));
  assert.equal(rulesOf(padded("1")), first, "used last but one");
});
