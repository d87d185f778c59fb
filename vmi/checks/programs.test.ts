import assert from "node:assert/strict";
import { test } from "node:test";
import { isSystemProgram } from "./programs.ts";

test("a program is the system's where systems have their programs, whatever it is called", () => {
  for (const path of [
    "/bin/ping",
    "/sbin/dhclient",
    "/usr/bin/ping",
    "/usr/sbin/NetworkManager",
    "/usr/local/sbin/keepalived",
    "/usr/lib/systemd/systemd-networkd",
    "/lib/systemd/systemd-networkd",
    "/usr/lib/wicked/bin/wickedd-dhcp4",
    "/usr/libexec/nm-dhcp-helper",
  ]) {
    assert.equal(isSystemProgram(path), true, path);
  }
  for (const path of [
    "/usr/share/doc/ping",
    "/usr/bin/.x/ping",
    "/usr/lib/a/b/c/ping",
    "/usr/ping",
    "/usr/src/bin/ping",
    "/opt/bin/ping",
    "/home/user/usr/bin/ping",
    "/var/lib/x/dhclient",
    "/tmp/bin/ping",
    "bin/ping",
    "ping",
  ]) {
    assert.equal(isSystemProgram(path), false, path);
  }
});
