// The shell as a person at a terminal has it: keys go in, and what the terminal would show comes out.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "./run.ts";
import { type FakeService, goodToken, startFakeService } from "./testing/fake-service.ts";

let service: FakeService;
let folder: string;
const open: Shell[] = [];
before(async () => {
  service = await startFakeService();
});
after(() => service?.[Symbol.asyncDispose]());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cloudvmi-shell-"));
  writeFileSync(join(folder, "ca.pem"), service.ca);
});
afterEach(async () => {
  for (const shell of open.splice(0)) await shell.leave();
  rmSync(folder, { recursive: true });
});

/** What of a terminal's control sequences is left out here. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const control = /\x1b\[[0-9;?]*[A-Za-z]/g;

class Shell {
  readonly code: Promise<number>;
  readonly #keys = new PassThrough();
  #screen = "";
  #seen = 0;

  constructor(...words: string[]) {
    const output = {
      isTerminal: true,
      columns: 100,
      write: async (chunk: string | Uint8Array) => {
        this.#screen += Buffer.from(chunk as string).toString();
      },
    };
    this.code = run(["sql", ...words], {
      out: output,
      err: output,
      stdin: Object.assign(this.#keys, { isTTY: true }),
      env: {
        NO_COLOR: "1",
        CLOUDVMI_URL: service.url,
        CLOUDVMI_TOKEN: goodToken,
        CLOUDVMI_CA: join(folder, "ca.pem"),
        XDG_STATE_HOME: folder,
      },
      entry: "",
      signal: new AbortController().signal,
    });
    open.push(this);
  }

  /** What comes in one piece is pasted: a Tab in it is no key. */
  type(keys: string): void {
    this.#keys.write(keys);
  }

  /** Waits until the screen shows this after what was last waited for. Returns what is between. */
  async until(text: string): Promise<string> {
    for (let wait = 0; wait < 500; wait++) {
      const shown = this.#screen.replace(control, "");
      const at = shown.indexOf(text, this.#seen);
      if (at >= 0) {
        const between = shown.slice(this.#seen, at);
        this.#seen = at + text.length;
        return between;
      }
      await sleep(10);
    }
    throw new Error(`the screen does not show ${JSON.stringify(text)}: ${JSON.stringify(this.#screen)}`);
  }

  async leave(): Promise<number> {
    this.#keys.end();
    return this.code;
  }
}

const history = () => readFileSync(join(folder, "cloudvmi", "sql_history"), "utf8");

test("statements over several lines, commands, and the end", async () => {
  const shell = new Shell("--vm", "web1");
  assert.match(await shell.until("sql> "), /statements end with ';'/);
  shell.type("SELECT 1,\r");
  await shell.until("...> ");
  shell.type("2; SELECT 'x\r");
  assert.match(await shell.until("...> "), /statement\nSELECT 1,\\x0a2\n$/);
  shell.type("y';\r");
  assert.match(await shell.until("sql> "), /statement\nSELECT 'x\\x0ay'\n$/);
  shell.type(".tables\r");
  assert.match(
    await shell.until("sql> "),
    /processes\nprocess_threads\nkernel_info\ntime\nkernel_log\nfindings\nchecks\n$/,
  );
  shell.type(".schema kernel_info\r");
  assert.match(
    await shell.until("sql> "),
    /CREATE TABLE kernel_info \(\n {2}vm TEXT,[^;]*boot_time INTEGER[^;]*\);\n$/,
  );
  shell.type(".schema\r");
  assert.match(await shell.until("sql> "), /processes \([\s\S]*kernel_info \(/);
  shell.type(".schema kernel_inf\r");
  assert.match(await shell.until("sql> "), /did you mean 'kernel_info'\?\n$/);
  shell.type(".help\r");
  assert.match(await shell.until("sql> "), /\.quit {12}leave/);
  shell.type("SELEC;\r");
  assert.match(await shell.until("sql> "), /cloudvmi: near "SELEC": syntax error\n$/);
  shell.type(".quit\r");
  assert.equal(await shell.code, 0);
});

test("Ctrl-C ends the statement that runs, or takes back what has been typed, and not the shell", async () => {
  const shell = new Shell("--vm", "web1");
  await shell.until("sql> ");
  shell.type("SELECT endless;\r");
  await sleep(100);
  shell.type("\x03");
  assert.match(await shell.until("sql> "), /cloudvmi: interrupted\n$/);
  shell.type("SELECT 1,\r");
  await shell.until("...> ");
  shell.type("23\x1b[D\x03");
  await shell.until("sql> ");
  shell.type("SELECT 4;\r");
  assert.match(await shell.until("sql> "), /statement\nSELECT 4\n$/);
  assert.equal(await shell.leave(), 0);
});

test("Tab completes, by what earlier lines of the statement say", async () => {
  const shell = new Shell("--vm", "web1");
  await shell.until("sql> ");
  shell.type("SELECT * FROM process_t");
  shell.type("\t");
  await shell.until("process_threads");
  shell.type(" t\r");
  await shell.until("...> ");
  shell.type("WHERE t.ni");
  shell.type("\t");
  await shell.until("t.nice");
  shell.type(" = 1;\r");
  assert.match(await shell.until("sql> "), /FROM process_threads t\\x0aWHERE t\.nice = 1\n$/);
});

test("what was typed is there the next time, from each statement on, and nobody else can read it", async () => {
  const shell = new Shell("--vm", "web1");
  await shell.until("sql> ");
  shell.type("SELECT 1;\r");
  await shell.until("sql> ");
  assert.equal(history(), "SELECT 1;\n");
  chmodSync(join(folder, "cloudvmi", "sql_history"), 0o644);
  shell.type("SELECT 2;\r");
  await shell.until("sql> ");
  assert.equal(history(), "SELECT 1;\nSELECT 2;\n");
  assert.equal(statSync(join(folder, "cloudvmi", "sql_history")).mode & 0o777, 0o600);
  assert.equal(statSync(join(folder, "cloudvmi")).mode & 0o777, 0o700);
  shell.type(".quit\r");
  assert.equal(await shell.code, 0);

  const next = new Shell("--vm", "web1");
  await next.until("sql> ");
  // Up past .quit and the second.
  next.type("\x1b[A\x1b[A\x1b[A\r");
  await next.until("statement\nSELECT 1\n");
  assert.equal(await next.leave(), 0);
  assert.equal(history(), "SELECT 2;\n.quit\nSELECT 1;\n");
});

test("a statement over several lines is one entry, also when it is pasted, unless a text in it has a line's end", async () => {
  const shell = new Shell("--vm", "web1");
  await shell.until("sql> ");
  shell.type("SELECT 0;\r");
  await shell.until("sql> ");
  shell.type("SELECT 1, -- one\r");
  await shell.until("...> ");
  shell.type("  2;\r");
  await shell.until("sql> ");
  shell.type("SELECT 3\r, 4;\rSELECT\r5;\r");
  await shell.until("statement\nSELECT\\x0a5\n");
  await shell.until("sql> ");
  shell.type("SELECT 6,\r");
  await shell.until("...> ");
  shell.type("\x03");
  await shell.until("sql> ");
  assert.equal(history(), "SELECT 0;\nSELECT 1, 2;\nSELECT 3 , 4;\nSELECT 5;\n");
  shell.type("SELECT '7\r8';\r");
  await shell.until("statement\nSELECT '7\\x0a8'\n");
  shell.type("\x1b[A\x1b[A\x1b[A\x1b[A\r");
  await shell.until("statement\nSELECT 5\n");
  assert.equal(await shell.leave(), 0);
  assert.match(history(), /SELECT 6,\nSELECT '7\n8';\nSELECT 5;\n$/);
});

test("a history that can't be kept is a line at the end, and no more", async () => {
  writeFileSync(join(folder, "cloudvmi"), "a file where the folder would be");
  const shell = new Shell("--vm", "web1");
  await shell.until("sql> ");
  shell.type("SELECT 1;\r");
  await shell.until("sql> ");
  shell.type(".quit\r");
  await shell.until("cloudvmi: the history can't be kept: ");
  assert.equal(await shell.code, 0);
});
