import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, test } from "node:test";
import { watchMemory } from "./watch-memory.ts";

test("what is watched is the inspector, also when the first look came before it was there", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "cloudvmi-watch-"));
  t.after(() => rmSync(folder, { recursive: true }));
  mock.timers.enable({ apis: ["setInterval"] });
  t.after(() => mock.timers.reset());
  // A shell stands for bubblewrap: it starts its child when it is told to.
  symlinkSync("/bin/sh", join(folder, "bwrap"));
  const large = "const b = Buffer.alloc(100 << 20, 1); console.log(b.length); process.stdin.resume()";
  const script = 'echo ready; read go; "$0" -e "$1"; true';
  const child = spawn(join(folder, "bwrap"), ["-c", script, process.execPath, large], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  t.after(() => child.stdin.end());
  let overs = 0;
  const watch = watchMemory(child.pid, 90, () => overs++);
  t.after(() => watch.close());
  const idle = watch.begin();
  await once(child.stdout, "data");
  mock.timers.tick(1000);
  assert.equal(overs, 0);
  child.stdin.write("go\n");
  await once(child.stdout, "data");
  mock.timers.tick(200);
  assert.equal(overs, 1);
  idle();
  mock.timers.tick(1000);
  assert.equal(overs, 1, "nobody asks it anything");
  // One that was taken over grows when nobody asks, too: it is looked at now and then.
  mock.timers.tick(5000);
  assert.equal(overs, 2);
});
