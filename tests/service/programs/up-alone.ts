// The operator's first minutes on a host with one VM, told as JSON. Run where no other process is seen: `up` takes every VM
// that it finds, and a monitor has room for one.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { program, runCli } from "../../../demo/cluster.ts";
import { freePort } from "../../../demo/service-process.ts";
import { bootGuest } from "../../../lab/index.ts";

const directory = mkdtempSync(join(tmpdir(), "cloudvmi-up-"));
const env = { XDG_CONFIG_HOME: join(directory, "config") };
const cli = async (...args: string[]) => {
  const { code, stdout, stderr } = await runCli([...args, "--json"], env);
  assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
  return JSON.parse(stdout);
};
try {
  await using guest = await bootGuest({ kernel: "6.12", name: "found" });
  const listen = `127.0.0.1:${await freePort()}`;
  const up = spawn(program, ["up", "--json", "--state", join(directory, "state"), "--listen", listen], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise<number | null>((done) => up.once("exit", done));
  try {
    const [text] = await once(createInterface({ input: up.stdout }), "line", { signal: AbortSignal.timeout(60_000) });
    const told = JSON.parse(text);
    await cli("login", told.url, "--ca", told.ca, "--token-file", told.admin_token);
    const unowned = await cli("vms");
    await cli("admin", "project", "create", "mine");
    await cli("admin", "owner", "set", "found", "mine");
    await cli("admin", "user", "create", "ann");
    await cli("admin", "member", "set", "ann", "mine", "viewer");
    const { secret } = await cli("admin", "token", "create", "ann");
    const ps = await runCli(["ps", "--json"], { CLOUDVMI_URL: told.url, CLOUDVMI_CA: told.ca, CLOUDVMI_TOKEN: secret });
    const processes = JSON.parse(ps.stdout).map((row: { vm: string; name: string }) => `${row.vm}:${row.name}`);
    up.kill("SIGTERM");
    console.log(JSON.stringify({ uuid: guest.uuid, told, unowned, processes, exit: await exited }));
  } finally {
    up.kill("SIGKILL");
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
