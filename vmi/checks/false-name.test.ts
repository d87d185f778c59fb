// Which names are lies: honest programs call themselves many things.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CheckContext, Finding } from "./check.ts";
import { falseName } from "./false-name.ts";
import type { SeenMemory } from "./memory-seen.ts";
import { type Program, programs } from "./programs.ts";

const kernel: Program[] = [
  { pid: 2, name: "kthreadd", path: undefined, commandLine: undefined, parent: 0, kernelThread: true },
  { pid: 20, name: "card0-crtc0", path: undefined, commandLine: undefined, parent: 2, kernelThread: true },
];

function find(
  name: string,
  path: string | undefined,
  commandLine: string,
  changes: Partial<Program> = {},
  memory: Partial<SeenMemory> = {},
): Finding[] {
  const program: Program = { pid: 300, name, path, commandLine, parent: 1, kernelThread: false, ...changes };
  const seen = { pid: 300, name, path, started: true, runsItsExecutable: true, ...memory };
  const found: Finding[] = [];
  const context = {
    shared: (make: unknown) =>
      make === programs ? new Map([...kernel, program].map((one) => [one.pid, one])) : [seen],
    report: (finding: Finding) => found.push(finding),
  };
  falseName.look(context as unknown as CheckContext);
  return found;
}

test("honest names", () => {
  for (const [name, path, commandLine] of [
    ["bash", "/bin/bash", "-bash"],
    ["sh", "/bin/busybox", "sh -c exec"],
    ["init", "/bin/busybox", "init"],
    ["crond", "/bin/busybox", "crond -f"],
    ["systemd", "/usr/lib/systemd/systemd", "/sbin/init"],
    ["systemd-udevd", "/usr/bin/udevadm", "/usr/lib/systemd/systemd-udevd"],
    ["(sd-pam)", "/usr/lib/systemd/systemd", "(sd-pam)"],
    ["(udev-worker)", "/usr/bin/udevadm", "(udev-worker)"],
    ["systemd-journal", "/usr/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"],
    ["sshd", "/usr/lib/openssh/sshd-session", "sshd-session: user@pts/0"],
    ["nginx", "/usr/sbin/nginx", "nginx: worker process"],
    ["postgres", "/usr/lib/postgresql/15/bin/postgres", "postgres: writer process"],
    ["fail2ban-server", "/usr/bin/python3.11", "/usr/bin/python3 /usr/bin/fail2ban-server"],
    ["lxc-start", "/usr/bin/lxc-start", "[lxc monitor] /var/lib/lxc box"],
    ["watchdogd", "/usr/sbin/watchdogd", "watchdogd"],
    ["myserver", "/tmp/build/myserver", "./myserver"],
  ] as const)
    assert.deepEqual(find(name, path, commandLine), [], name);
});

test("names of kernel threads, also of one that only this kernel has", () => {
  for (const [name, path, commandLine] of [
    ["kworker/0:1", "/usr/bin/python3.11", "python3"],
    ["python3", "/usr/bin/python3.11", "[kworker/0:1]"],
    ["kswapd0", "/tmp/kswapd0", "./kswapd0"],
    ["card0-crtc0", "/usr/bin/perl", "perl"],
  ] as const)
    assert.deepEqual(
      find(name, path, commandLine).map(({ severity }) => severity),
      ["high"],
      name,
    );
});

test("names of daemons", () => {
  assert.equal(find("sshd", "/tmp/sshd", "/usr/sbin/sshd -D")[0]?.severity, "high");
  assert.equal(find("apache2", "/usr/bin/perl", "/usr/sbin/apache2 -k start")[0]?.severity, "medium");
});

test("a program that begins or ends has two names at once", () => {
  assert.deepEqual(find("kworker/u4:1", "/usr/bin/kmod", "", {}, { started: false }), []);
  assert.deepEqual(find("sshd", "/bin/bash", "-bash", {}, { path: "/usr/sbin/sshd" }), []);
  assert.deepEqual(find("kworker/u4:1", undefined, ""), []);
});

test("the mark of a kernel thread, and an executable that is not mapped", () => {
  assert.equal(find("sh", "/bin/sh", "sh", { kernelThread: true })[0]?.severity, "critical");
  assert.deepEqual(find("kworker/0:0", undefined, "", { kernelThread: true, parent: 2 }), []);
  const [finding] = find("sh", "/bin/sh", "sh", {}, { runsItsExecutable: false });
  assert.match(finding!.what, /names \/bin\/sh as its executable, and has nothing of it in its memory/);
});
