// A guest with systemd is one as people run them: what a distribution starts runs, nothing of it failed, and checks are silent.
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { read, Subject } from "../engine/support.ts";
import { alarms } from "./expected.ts";

suite("systemd", { concurrency: 2 }, () => {
  for (const kernel of ["6.12", "6.1"] as const) {
    test(`Linux ${kernel}`, async () => {
      const spec = { kernel, system: "systemd", workload: "quiet", name: `systemd-${kernel}` } as const;
      await using subject = await Subject.boot(spec);
      const guest = subject.lab;
      assert.equal(await guest.exec("systemctl is-system-running --wait"), "running\n");
      const { processes } = await guest.truth();
      assert.equal(processes.get(1)!.comm, "systemd");
      const names = new Set([...processes.values()].map(({ comm }) => comm));
      for (const name of ["systemd-journal", "systemd-udevd", "systemd-logind", "dbus-daemon", "cron", "agetty"])
        assert.ok(names.has(name), name);
      const seen = await subject.attach();
      for (let look = 0; look < 3; look++) assert.deepEqual(alarms(read(seen, "findings")), []);
      assert.equal((await guest.exec("uname -n")).trim(), `systemd-${kernel}`);
    });
  }
});
