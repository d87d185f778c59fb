import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hexdump } from "./hexdump.ts";
import { jsonLines, toJson } from "./json.ts";
import { sanitise, sanitiseValue } from "./sanitise.ts";
import { formatProperties, formatTable, tableParts } from "./table.ts";
import { formatAddress, formatBytes, formatDuration, formatTime } from "./units.ts";
import { pad, truncate, widthOf } from "./width.ts";

const cell = (text: string) => ({ text });
const plain = { width: undefined, colour: false };

test("sanitise leaves text in any script alone", () => {
  for (const text of ["nginx: worker process", "Straße", "日本語", "é", "emoji 🦀", "a\\b"])
    assert.equal(sanitise(text), text);
});

test("sanitise shows control characters, escape sequences and invalid bytes", () => {
  assert.equal(sanitise("a\x1b[31mred\x1b]0;title\x07"), "a\\x1b[31mred\\x1b]0;title\\x07");
  assert.equal(sanitise("two\nlines\r\tand\0"), "two\\x0alines\\x0d\\x09and\\x00");
  assert.equal(sanitise("\u009b31m\x7f"), "\\x9b31m\\x7f");
  // Invalid UTF-8 byte 0xff, as the SDK carries it.
  assert.equal(sanitise("a\udcffb"), "a\\xffb");
  assert.equal(sanitise("\ud800x"), "\\u{d800}x");
});

test("sanitise shows what would reorder or hide text", () => {
  assert.equal(sanitise("cod\u202egpj.exe"), "cod\\u{202e}gpj.exe");
  assert.equal(sanitise("a\u200bb\u2066c\ufeff\u2028"), "a\\u{200b}b\\u{2066}c\\u{feff}\\u{2028}");
});

test("a backslash is doubled where it would read as an escape, and only there", () => {
  const shown: [string, string][] = [
    ["\n", "\\x0a"],
    ["\\x0a", "\\\\x0a"],
    ["\\\\x0a", "\\\\\\\\x0a"],
    ["\\\n", "\\\\\\x0a"],
    ["\\u{202e}", "\\\\u{202e}"],
    ["grep \\d+\\.\\w\\x C:\\users\\x1 \\u00e9 \\", "grep \\d+\\.\\w\\x C:\\users\\x1 \\u00e9 \\"],
  ];
  for (const [text, expected] of shown) assert.equal(sanitiseValue(text), expected);
});

test("no two values show alike, and what is shown goes through sanitise unchanged", () => {
  const units = ["\\", "x", "0", "a", "u", "{", "}", "\n", "\u0080", "\udc80", "\u202e"];
  const text = fc.string({ unit: fc.constantFrom(...units), maxLength: 12 });
  /** What was shown, from what is shown. An invalid byte shows as the control character of the same number. */
  const back = (value: string) =>
    value.replace(
      /(\\+)(?:x([0-9a-f]{2})|u\{([0-9a-f]+)\})/g,
      (whole, slashes: string, byte?: string, code?: string) => {
        const literal = "\\".repeat(slashes.length >> 1);
        return slashes.length % 2 === 0
          ? `${literal}${whole.slice(slashes.length)}`
          : `${literal}${String.fromCodePoint(Number.parseInt((byte ?? code)!, 16))}`;
      },
    );
  fc.assert(
    fc.property(text, (any) => {
      const value = sanitiseValue(any);
      assert.equal(back(value), any.replaceAll("\udc80", "\u0080"));
      assert.equal(sanitise(value), value);
    }),
    { numRuns: 2000 },
  );
});

test("nothing that sanitise returns can control a terminal", () => {
  const text = fc.string({ unit: "binary" });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  fc.assert(fc.property(text, (any) => !/[\x00-\x1f\x7f-\x9f]/.test(sanitise(any))));
});

test("width counts terminal cells", () => {
  assert.equal(widthOf("abc"), 3);
  assert.equal(widthOf("日本"), 4);
  assert.equal(widthOf("e\u0301"), 1);
  assert.equal(widthOf("🦀"), 2);
  assert.equal(pad("日", 4, "left"), "日  ");
  assert.equal(pad("日", 4, "right"), "  日");
});

test("truncate never exceeds the cells and marks what it cut", () => {
  assert.equal(truncate("abcdef", 6), "abcdef");
  assert.equal(truncate("abcdefg", 6), "abcde…");
  assert.equal(truncate("日本語", 4), "日…");
  const cells = fc.integer({ min: 1, max: 20 });
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme" }).map(sanitise),
      cells,
      (text, most) => widthOf(truncate(text, most)) <= most,
    ),
  );
});

test("JSON keeps integers exact and stays well-formed", () => {
  assert.equal(
    toJson({ small: 5n, big: 2n ** 60n, negative: -(2n ** 60n) }),
    '{"small":5,"big":"1152921504606846976","negative":"-1152921504606846976"}',
  );
  assert.equal(toJson({ absent: null, torn: { state: "torn" } }), '{"absent":null,"torn":{"state":"torn"}}');
  assert.equal(toJson("a\udcffb"), '"a\\udcffb"');
  assert.equal(toJson(new Uint8Array([1, 255])), '"01ff"');
  assert.equal(toJson("\x1b\x9b\u202e"), '"\\u001b\\u009b\\u202e"');
});

test("whatever a guest wrote, JSON gives it back and is harmless to print", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const json = toJson([text]);
      assert.deepEqual(JSON.parse(json), [text]);
      assert.equal(sanitise(json), json);
    }),
  );
});

test("lists are one row a line and valid JSON, empty ones too", () => {
  assert.equal([...jsonLines([{ a: 1 }, { a: 2 }])].join(""), '[\n{"a":1},\n{"a":2}\n]\n');
  assert.deepEqual(JSON.parse([...jsonLines([])].join("")), []);
});

test("tables line up, numbers on the right, without spaces at line ends", () => {
  const lines = formatTable(
    [{ title: "pid", align: "right" }, { title: "name" }],
    [
      [cell("1"), cell("systemd")],
      [cell("4711"), cell("日本")],
    ],
    plain,
  );
  assert.deepEqual(lines, [" pid  name", "   1  systemd", "4711  日本"]);
});

test("on a terminal long text is cut to fit, numbers are not", () => {
  const row = [cell("123456789012"), cell("n".repeat(60)), cell("c".repeat(100))];
  const columns = [{ title: "pid", align: "right" as const }, { title: "name" }, { title: "cmdline" }];
  const lines = formatTable(columns, [row], { width: 60, colour: false });
  for (const line of lines) assert.ok(widthOf(line) <= 60, line);
  assert.match(lines[1]!, /^123456789012 {2}n+… {2}c+…$/);
  assert.match(formatTable(columns, [row], plain)[1]!, /c{100}$/);
  const whole = formatTable([{ title: "uuid", whole: true }], [[cell("u".repeat(36))]], { width: 20, colour: false });
  assert.equal(whole[1], "u".repeat(36));
});

test("rows that come in parts have one heading, and columns only grow", () => {
  const columns = [{ title: "n", align: "right" as const }, { title: "name" }, { title: "x" }];
  const row = (...texts: string[]) => texts.map(cell);
  const lines = tableParts(columns, plain);
  assert.deepEqual(lines([row("1", "ab", "x")]), ["n  name  x", "1  ab    x"]);
  assert.deepEqual(lines([row("10", "abcdef", "y")]), ["10  abcdef  y"]);
  assert.deepEqual(lines([row("2", "a", "z")]), [" 2  a       z"]);
  const narrow = tableParts(columns, { width: 24, colour: false });
  narrow([row("1", "a", "b")]);
  for (const later of narrow([row("1", "a".repeat(50), "b".repeat(50))])) assert.ok(widthOf(later) <= 24, later);
});

test("colour only decorates", () => {
  const lines = formatTable([{ title: "a" }, { title: "b" }], [[{ text: "-", dim: true }, cell("x")]], {
    width: undefined,
    colour: true,
  });
  assert.deepEqual(lines, ["\x1b[1ma\x1b[22m  \x1b[1mb\x1b[22m", "\x1b[2m-\x1b[22m  x"]);
});

test("properties line up", () => {
  assert.deepEqual(
    formatProperties(
      [
        ["version", cell("6.12")],
        ["up", cell("1")],
      ],
      plain,
    ),
    ["version  6.12", "up       1"],
  );
});

test("hexdump shows address, bytes and ASCII, and repeats once", () => {
  const bytes = new Uint8Array(70);
  bytes.set(Buffer.from("Linux version\n\x1b["), 0);
  assert.deepEqual(
    [...hexdump(bytes, 0xffffffff81000000n)],
    [
      "ffffffff81000000  4c 69 6e 75 78 20 76 65  72 73 69 6f 6e 0a 1b 5b  |Linux version..[|",
      "ffffffff81000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
      "*",
      "ffffffff81000040  00 00 00 00 00 00                                 |......|",
    ],
  );
  assert.deepEqual([...hexdump(new Uint8Array(0), 0n)], []);
});

test("units", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 20 * 1024 ** 2, 4.5 * 1024 ** 3].map(formatBytes), [
    "0",
    "1023",
    "1K",
    "1.5K",
    "20M",
    "4.5G",
  ]);
  assert.equal(formatTime(0n), "");
  assert.equal(formatTime(1795424400000n), "2026-11-23 09:00:00Z");
  assert.equal(formatTime(2n ** 63n), "9223372036854775808");
  assert.equal(formatDuration(3 * 86_400 + 3661), "3d 01:01:01");
  assert.equal(formatDuration(59), "00:00:59");
  assert.equal(formatDuration(-1), "-1");
  assert.equal(formatAddress(-1n), "0xffffffffffffffff");
  assert.equal(formatAddress(4096), "0x0000000000001000");
});
