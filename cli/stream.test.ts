import assert from "node:assert/strict";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { capture } from "./testing/capture.ts";
import { loggedIn } from "./testing/logged-in.ts";

const at = loggedIn();
const cloudvmi = (...words: string[]) => capture(words, { env: at.env });
/** The command must fail with this code and one line. */
async function refused(words: string[], code: number, pattern: RegExp): Promise<void> {
  const answer = await cloudvmi(...words);
  assert.match(answer.err, pattern);
  assert.match(answer.err, /^cloudvmi: [^\n]+\n$/);
  assert.equal(answer.code, code);
}

test("stream writes a sparse file and does not overwrite one", async () => {
  const file = join(at.folder, "image");
  const { code, out } = await cloudvmi("stream", "web1", "--output", file, "--start", "0x10000");
  assert.equal(code, 0);
  assert.match(out, /24K, of which 8K with contents, 12K zeros, 4K not RAM/);
  const image = await readFile(file);
  assert.equal(image.length, 24_576);
  assert.deepEqual([image[255], image[4096], image[16_384 + 255], image[20_480]], [255, 0, 255, 0]);
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  await refused(["stream", "web1", "--output", file], 2, /exists: choose another file, or --force/);
  assert.equal((await cloudvmi("stream", "web1", "--output", file, "--force")).code, 0);
  const failed = join(at.folder, "failed");
  await refused(["stream", "boot1", "--output", failed], 4, /no Linux kernel runs there/);
  await assert.rejects(stat(failed));
});

test("what a stream would overwrite stays until its image is whole", async () => {
  const file = join(at.folder, "image");
  await writeFile(file, "of last year");
  await refused(["stream", "boot1", "--output", file, "--force"], 4, /no Linux kernel runs there/);
  assert.equal(await readFile(file, "utf8"), "of last year");
  assert.deepEqual((await readdir(at.folder)).toSorted(), ["ca.pem", "image"]);
  await refused(["stream", "web1", "--output", at.folder, "--force"], 2, /is not a file/);
  await cloudvmi("stream", "web1", "--output", file, "--force", "--start", "0x10000");
  assert.equal((await stat(file)).size, 24_576);
});

test("an image that is whole stays when the closing words can't be written", async () => {
  const file = join(at.folder, "image");
  const answer = await capture(["stream", "web1", "--output", file, "--start", "0x10000"], {
    env: at.env,
    outFails: true,
  });
  assert.equal(answer.code, 1);
  assert.equal((await stat(file)).size, 24_576);
});
