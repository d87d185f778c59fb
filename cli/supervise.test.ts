import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { CliError } from "./failure.ts";
import { supervise } from "./supervise.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "cloudvmi-supervise-"));
});
after(() => rm(folder, { recursive: true }));

async function start(name: string, source: string, words: string[] = []) {
  const file = join(folder, `${name}.mjs`);
  await writeFile(file, source);
  const lines: string[] = [];
  const back = Promise.withResolvers<void>();
  const report = (line: string) => {
    lines.push(line);
    if (line.endsWith("is back")) back.resolve();
  };
  const signal = new AbortController().signal;
  const log = (line: string) => lines.push(`log: ${line}`);
  const supervised = await supervise<string>({ name, words: [file, ...words], env: process.env, report, log, signal });
  return { supervised, lines, back: back.promise };
}

test("a process that ends is started again, and stops when told", async () => {
  const once = join(folder, "once");
  const source = `
    import { existsSync, writeFileSync } from "node:fs";
    process.on("disconnect", () => process.exit(0));
    console.error("a line");
    process.on("SIGTERM", () => { writeFileSync(process.argv[2] + ".stopped", ""); process.exit(0); });
    if (!existsSync(process.argv[2])) { writeFileSync(process.argv[2], ""); setTimeout(() => process.exit(7), 50); }
    process.send("ready " + process.pid);
  `;
  const { supervised, lines, back } = await start("again", source, [once]);
  assert.match(supervised.ready, /^ready \d+$/);
  await back;
  assert.deepEqual(
    lines.filter((line) => !line.startsWith("log: ")),
    ["again ended (exit code 7): starting it again in 1 s", "again is back"],
  );
  await supervised.stop();
  assert.ok(existsSync(`${once}.stopped`));
  assert.deepEqual(
    lines.filter((line) => line.startsWith("log: ")),
    ["log: a line", "log: a line"],
  );
});

test("one that never gets ready is a failure, with its own idea of whose", async () => {
  const fails = (exit: number) => (error: unknown) =>
    error instanceof CliError && error.exit === exit && /did not start \(exit code/.test(error.message);
  await assert.rejects(start("broken", "process.exit(1)"), fails(1));
  await assert.rejects(start("wrong", "process.exit(2)"), fails(2));
});
