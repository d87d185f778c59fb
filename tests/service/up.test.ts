import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

/** Makes a command see no processes but its own. */
const alone: string[] =
  process.getuid?.() === 0
    ? ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    : ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"];

test("`cloudvmi up` finds a VM that runs already, and shows it to its owner once it has one", async (t) => {
  const [command, ...args] = [...alone, process.execPath, join(import.meta.dirname, "programs/up-alone.ts")];
  const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit"] });
  // unshare takes no notice of gentler signals, and takes what runs inside with it.
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const code = await new Promise((done) => child.once("close", done));
  assert.equal(code, 0);
  const { uuid, told, unowned, processes, exit } = JSON.parse(output);
  assert.deepEqual(
    told.vms.map((vm: { name: string; uuid: string }) => [vm.name, vm.uuid]),
    [["found", uuid]],
  );
  assert.deepEqual(unowned, [], "a VM without an owner is nobody's");
  assert.ok(processes.includes("found:init"));
  assert.ok([0, 130].includes(exit), `it ends when it is told to: ${exit}`);
});
