// What the documents say is true, as far as a machine can see it cheaply.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import type { Command } from "commander";
import { loadAgentConfig } from "../../agent/index.ts";
import type { Io } from "../../cli/io.ts";
import { buildProgram } from "../../cli/program.ts";
import { vmActions } from "../../control/action.ts";
import { loadControlConfig } from "../../control/index.ts";
import { roles } from "../../control/state/schema.ts";
import { checkReference } from "../../scripts/check-reference.ts";
import { tableReference } from "../../scripts/table-reference.ts";
import { checks, tables } from "../../vmi/index.ts";
import {
  anchorsOf,
  type Block,
  cloudvmiWords,
  commandsOf,
  type Document,
  inlineCode,
  parseDocument,
  readDocuments,
  type Shown,
  tableRows,
} from "./docs.ts";
import { root } from "./planted.ts";

const documents = readDocuments();
const documentOf = (file: string) => documents.find((each) => each.file === file)!;
const manifest: { scripts: Record<string, string> } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** What is wrong in all documents, as file:line: problem. */
function problems(find: (document: Document) => Iterable<readonly [line: number, problem: string]>): string[] {
  return documents.flatMap((document) =>
    [...find(document)].map(([line, problem]) => `${document.file}:${line}: ${problem}`),
  );
}

const silent = { write: async () => {}, isTerminal: false, columns: 80 };
const io: Io = {
  out: silent,
  err: silent,
  stdin: Readable.from([]),
  env: {},
  entry: "",
  signal: new AbortController().signal,
};
const program = buildProgram(io);

/** A word that stands for something: VM, 0x…, `…`. */
const isPlaceholder = (word: string) => /…|^[A-Z]+$/.test(word);

interface Parsed {
  readonly path: readonly string[];
  readonly positionals: readonly string[];
  readonly options: readonly (readonly [name: string, value: string])[];
}

/** Follows words down the command tree. Throws an Error that says what does not exist there. */
function parseShown({ words, whole }: Pick<Shown, "words" | "whole">): Parsed {
  const line: Command[] = [program];
  const positionals: string[] = [];
  const options: [string, string][] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    const command = line.at(-1)!;
    if (word.startsWith("-")) {
      if (word === "--help" || word === "-h") continue;
      const known = line.flatMap((each) => each.options).find(({ long, short }) => long === word || short === word);
      if (known === undefined) throw new Error(`cloudvmi ${names(line)} has no option ${word}`);
      const value = known.required || known.optional ? words[++at] : "";
      if (value === undefined && whole) throw new Error(`${word} needs a value`);
      if (value && !isPlaceholder(value) && known.parseArg) known.parseArg(value, undefined);
      options.push([word, value ?? ""]);
      continue;
    }
    const child = command.commands.find((each) => each.name() === word);
    if (child !== undefined && positionals.length === 0) line.push(child);
    else if (word !== "…") positionals.push(word);
  }
  const command = line.at(-1)!;
  const takes = command.registeredArguments;
  if (command.commands.length > 0 && positionals.length > 0 && !isPlaceholder(positionals[0]!))
    throw new Error(`cloudvmi ${names(line)} has no command ${positionals[0]}`);
  if (command.commands.length === 0 && positionals.length > takes.length && !takes.at(-1)?.variadic)
    throw new Error(`cloudvmi ${names(line)} takes ${takes.length} arguments, not ${positionals.length}`);
  if (whole && positionals.length < takes.filter(({ required }) => required).length)
    throw new Error(`cloudvmi ${names(line)} needs more arguments`);
  for (const option of command.options) {
    if (whole && option.mandatory && !options.some(([name]) => name === option.long))
      throw new Error(`cloudvmi ${names(line)} needs ${option.long}`);
  }
  return { path: line.slice(1).map((each) => each.name()), positionals, options };
}

const names = (line: readonly Command[]) =>
  line
    .slice(1)
    .map((each) => each.name())
    .join(" ");

/** Tables that commands show, by the commands' names. */
const tableOf: Record<string, string> = {
  ps: "processes",
  threads: "process_threads",
  modules: "kernel_modules",
  info: "kernel_info",
};

function unknownColumns(table: string, columns: readonly string[]): string[] {
  const known = tables.find(({ name }) => name === table);
  if (known === undefined) return [`there is no table ${table}`];
  return columns.filter((column) => !Object.hasOwn(known.columns, column)).map((each) => `${table} has no ${each}`);
}

/** Tables and columns that a command names and the catalogue does not have. */
function unknownIn({ path, positionals, options }: Parsed): string[] {
  const command = path.at(-1) ?? "";
  const table = command === "table" ? positionals[0] : tableOf[command];
  if (table === undefined || isPlaceholder(table)) return [];
  const columns = options.flatMap(([name, value]) => {
    if (name === "--columns") return value.split(",");
    return name === "--where" ? [value.split("=", 1)[0]!] : [];
  });
  return unknownColumns(
    table,
    columns.filter((column) => column !== "" && !isPlaceholder(column)),
  );
}

function problemsOf(shown: Shown): string[] {
  try {
    return unknownIn(parseShown(shown));
  } catch (error) {
    return [(error as Error).message];
  }
}

test("every command and option that is shown exists, with tables and columns of the catalogue", () => {
  assert.ok(documents.flatMap(commandsOf).length > 100);
  assert.deepEqual(
    problems((document) =>
      commandsOf(document).flatMap((shown) => problemsOf(shown).map((problem) => [shown.line, problem] as const)),
    ),
    [],
  );
});

test("what does not exist is found", () => {
  const wrong: [string, RegExp][] = [
    ["cloudvmi pss", /no command pss/],
    ["cloudvmi admin audit forge", /no command forge/],
    ["cloudvmi ps --colums pid", /ps has no option --colums/],
    ["cloudvmi ps web1 --columns pid,nam", /processes has no nam/],
    ["cloudvmi table sockets web1", /no table sockets/],
    ["cloudvmi table process_envs web1 --where comm=x", /process_envs has no comm/],
    ["cloudvmi read web1", /needs more arguments/],
    ["cloudvmi stream web1", /needs --output/],
    ["cloudvmi whoami now", /takes 0 arguments/],
    ["cloudvmi pause web1 --seconds 900", /1 to 300/],
    ["cloudvmi token create --lifetime", /--lifetime needs a value/],
  ];
  for (const [command, problem] of wrong) {
    const [found = "nothing"] = problemsOf({ words: cloudvmiWords(command)!, line: 1, whole: true });
    assert.match(found, problem, command);
  }
  assert.deepEqual(problemsOf({ words: cloudvmiWords("cloudvmi ps > x # y")!, line: 1, whole: true }), []);
});

test("the table reference is current, and has every table once with its columns", () => {
  const { text } = documentOf("docs/tables.md");
  assert.ok(text === tableReference(), "docs/tables.md is not what the tables' specs say; run: npm run generate");
  for (const { name, columns } of tables) {
    assert.equal(text.split(`\n### ${name}\n`).length, 2, name);
    assert.deepEqual(
      tableRows(documentOf("docs/tables.md"), name).map(([column]) => column),
      Object.keys(columns).map((column) => `\`${column}\``),
    );
  }
});

test("the reference of checks is current, and has every check once", () => {
  const { text } = documentOf("docs/checks.md");
  assert.ok(text === checkReference(), "docs/checks.md is not what the checks' specs say; run: npm run generate");
  for (const { name } of checks) assert.equal(text.split(`\n## ${name}\n`).length, 2, name);
});

test("tables that the tenant guide names are in the catalogue", () => {
  const named = tableRows(documentOf("docs/tenant-guide.md"), "Tables").map(([table = ""]) =>
    table.replaceAll("`", ""),
  );
  assert.ok(named.length > 4);
  for (const table of named)
    assert.ok(
      tables.some(({ name }) => name === table),
      table,
    );
});

test("the tenant guide's roles are those of the shipped policies", () => {
  const listed = tableRows(documentOf("docs/tenant-guide.md"), "Roles").map((row) =>
    row.slice(0, 2).map((cell) => [...cell.matchAll(/`(\w+)`/g)].map((match) => match[1])),
  );
  const expected = roles.map((role) => [
    [role],
    Object.entries(vmActions)
      .filter(([, rules]) => rules.role === role)
      .map(([action]) => action),
  ]);
  assert.deepEqual(listed, expected);
});

test("tables and columns of programs and requests in the documents are in the catalogue", () => {
  let seen = 0;
  const found = problems(({ blocks }) =>
    blocks.flatMap(({ text, line }) => {
      const calls = [...text.matchAll(/\.table\("(\w+)", (\{.*?\})\)|"table": ?"(\w+)"(.*)/g)];
      seen += calls.length;
      return calls.flatMap(([, called, query = "", asked, rest = ""]) => {
        const lists = [...query.matchAll(/columns: \[(.*?)\]/g), ...rest.matchAll(/"columns": ?\[(.*?)\]/g)];
        const columns = lists.flatMap((list) => [...list[1]!.matchAll(/"(\w+)"/g)].map((match) => match[1]!));
        for (const where of query.matchAll(/where: \{ ?(\w+):/g)) columns.push(where[1]!);
        for (const where of rest.matchAll(/"column": ?"(\w+)"/g)) columns.push(where[1]!);
        return unknownColumns(called ?? asked ?? "", columns).map((problem) => [line, problem] as const);
      });
    }),
  );
  assert.ok(seen >= 3);
  assert.deepEqual(found, []);
});

test("every link and path leads somewhere", () => {
  const top = new Set(globSync("*/", { cwd: root }).map((folder) => folder.replace(/\/$/, "")));
  assert.ok(top.has("vmi") && !top.has("README.md"));
  const found = problems((document) => {
    const folder = dirname(document.file);
    const links = document.prose.flatMap((line, at) =>
      [...line.matchAll(/\]\((?!https?:)([^)]*)\)/g)].map((match) => [at + 1, match[1]!] as const),
    );
    const dead = links.filter(([, target]) => {
      const [path = "", anchor] = target.split("#", 2);
      const file = path === "" ? document.file : join(folder, path);
      if (!existsSync(join(root, file))) return true;
      return (
        anchor !== undefined && !anchorsOf(parseDocument(file, readFileSync(join(root, file), "utf8"))).has(anchor)
      );
    });
    const paths = inlineCode(document)
      .filter(({ text }) => /^[\w.-]+\/[\w./-]*$/.test(text) && top.has(text.split("/", 1)[0]!))
      .filter(({ text }) => !existsSync(join(root, text)));
    return [...dead, ...paths.map(({ line, text }) => [line, text] as const)].map(
      ([line, target]) => [line, `${target} is not there`] as const,
    );
  });
  assert.deepEqual(found, []);
});

test("every npm script that is named exists", () => {
  const found = problems(({ text }) =>
    [...text.matchAll(/npm run ([\w:-]+)/g)]
      .filter(([, script]) => !Object.hasOwn(manifest.scripts, script!))
      .map(([, script]) => [0, `there is no script ${script}`] as const),
  );
  assert.deepEqual(found, []);
});

/** Loads a configuration as the program would. */
function load(kind: string | undefined, text: string): void {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-docs-"));
  try {
    const file = join(folder, `${kind}.toml`);
    writeFileSync(file, text);
    if (kind === "agent") loadAgentConfig(file);
    else if (kind === "control") loadControlConfig(file);
    else throw new Error("say whose configuration it is: ```toml agent, or ```toml control");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const tomlBlocks = (document: Document) => document.blocks.filter(({ info }) => info.startsWith("toml"));

test("every configuration in the documents is accepted", () => {
  assert.ok(documents.flatMap(tomlBlocks).length >= 4);
  const found = problems((document) =>
    tomlBlocks(document).flatMap(({ info, text, line }: Block) => {
      try {
        load(info.split(" ")[1], text);
        return [];
      } catch (error) {
        return [[line, (error as Error).message] as const];
      }
    }),
  );
  assert.deepEqual(found, []);
});

test("every key that a configuration may have is in the operator guide", () => {
  const minimal = { agent: 'listen = "unix:/run/a.sock"\nstate = "/s"\n', control: 'state = "/s"\n' };
  const asked = {
    agent: ["", "[sandbox]\n", "[discovery]\n", "[types]\n", "[[vm]]\n", "[tls]\nca='a'\ncertificate='c'\nkey='k'\n"],
    control: ["", "[limits]\n", "[tls]\ncertificate='c'\nkey='k'\n", "[agent_tls]\nca='a'\ncertificate='c'\nkey='k'\n"],
  };
  for (const kind of ["agent", "control"] as const) {
    const cells = tableRows(documentOf("docs/operator-guide.md"), `${kind}.toml`).map(([key = ""]) => key);
    const documented = new Set(cells.flatMap((cell) => [...cell.matchAll(/\w+/g)].map((match) => match[0])));
    for (const section of asked[kind]) {
      assert.throws(
        () => load(kind, `${minimal[kind]}${section}nonsense = 1\n`),
        (error: Error) => {
          const known =
            /unknown key \S*nonsense[;:] known (?:here )?are (.*)$/.exec(error.message)?.[1]?.split(", ") ?? [];
          assert.ok(known.length > 0, error.message);
          assert.deepEqual(
            known.filter((key) => !documented.has(key)),
            [],
            `${kind}.toml ${section}`,
          );
          return true;
        },
      );
    }
  }
});

test("the messages of the troubleshooting list are the programs' own", () => {
  const sources = globSync("{agent,cli,control,sdk,vmi,wire}/**/*.ts", { cwd: root, exclude: ["**/*.test.ts"] })
    .map((file) => readFileSync(join(root, file), "utf8"))
    .join("\n");
  const rows = tableRows(documentOf("docs/operator-guide.md"), "Troubleshooting");
  assert.ok(rows.length > 20);
  const missing = rows.flatMap(([cell = ""]) =>
    cell
      .replace(/^`(.*)`$/s, "$1")
      .split("…")
      .map((part) => part.replace(/^: /, "").trim())
      .filter((part) => /\w{3}/.test(part) && !sources.includes(part)),
  );
  assert.deepEqual(missing, []);
});

test("every program in TypeScript compiles", () => {
  const programs = documents.flatMap(({ blocks }) => blocks.filter(({ info }) => info === "ts"));
  assert.ok(programs.length >= 2);
  mkdirSync(join(root, "dist"), { recursive: true });
  const folder = mkdtempSync(join(root, "dist/docs-"));
  try {
    for (const [at, { text }] of programs.entries())
      writeFileSync(join(folder, `program-${at}.ts`), text.replaceAll('from "./', 'from "../../'));
    writeFileSync(
      join(folder, "tsconfig.json"),
      '{ "extends": "../../tsconfig.json", "include": ["*.ts"], "exclude": [] }',
    );
    const tsc = join(root, "node_modules/.bin/tsc");
    const { status, stdout } = spawnSync(tsc, ["-p", folder], { encoding: "utf8" });
    assert.equal(status, 0, stdout.replaceAll(basename(folder), "docs"));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
