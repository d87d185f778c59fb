import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { findQemuProcesses } from "./discovery.ts";

const folder = mkdtempSync(join(tmpdir(), "cloudvmi-discovery-"));
after(() => rmSync(folder, { recursive: true }));

/** A process under QEMU's name that sleeps. */
async function pretend(name: string, ...args: string[]) {
  symlinkSync("/bin/sh", join(folder, name));
  const child = spawn(join(folder, name), ["-c", "read x", ...args], {
    cwd: folder,
    stdio: ["pipe", "ignore", "ignore"],
  });
  await new Promise((resolve) => child.once("spawn", resolve));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return {
    pid: child.pid!,
    end: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

test("a process of QEMU with a monitor is found, by name and arguments alone", async () => {
  const vm = await pretend("qemu-system-x86_64", "-qmp", "unix:relative.sock,server=on,wait=off");
  const mute = await pretend("qemu-system-i386", "-nodefaults");
  const other = await pretend("qemu-img", "-qmp", "unix:/run/x.sock");
  const found = findQemuProcesses();
  const mine = found.find(({ pid }) => pid === vm.pid);
  assert.deepEqual(mine?.sockets, [join(folder, "relative.sock")]);
  assert.match(mine.start, /^\d+$/);
  assert.equal(
    found.some(({ pid }) => pid === mute.pid || pid === other.pid),
    false,
  );
  await Promise.all([vm.end(), mute.end(), other.end()]);
  assert.equal(
    findQemuProcesses().some(({ pid }) => pid === vm.pid),
    false,
  );
});
