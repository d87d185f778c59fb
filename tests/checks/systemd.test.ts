// A guest with systemd is one as people run them: what a distribution starts runs, and nothing of it failed.
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { bootGuest } from "../../lab/index.ts";

suite("systemd", { concurrency: 2 }, () => {
  for (const kernel of ["6.12", "6.1"] as const) {
    test(`Linux ${kernel}`, async () => {
      await using guest = await bootGuest({ kernel, system: "systemd", workload: "quiet", name: `systemd-${kernel}` });
      assert.equal(await guest.exec("systemctl is-system-running --wait"), "running\n");
      const { processes } = await guest.truth();
      assert.equal(processes.get(1)!.comm, "systemd");
      const names = new Set([...processes.values()].map(({ comm }) => comm));
      for (const name of ["systemd-journal", "systemd-udevd", "systemd-logind", "dbus-daemon", "cron", "agetty"])
        assert.ok(names.has(name), name);
      assert.equal((await guest.exec("uname -n")).trim(), `systemd-${kernel}`);
    });
  }
});
