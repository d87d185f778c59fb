// kernel_parameters against every file of /proc/sys.
import assert from "node:assert/strict";
import { type Row, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Name, permission bits and contents of each, separated by zeros; without contents where the guest can't read it. */
const COLLECT = `python3 -I -S -c '
import os, posix
for folder, _, names in os.walk("/proc/sys"):
    for name in names:
        path = folder + "/" + name
        data = b"?"
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK)
            data = b"=" + posix.read(fd, 65536)
            posix.close(fd)
        except OSError:
            pass
        posix.write(1, b"%s\\0%d\\0%s\\0" % (path[10:].encode(), posix.stat(path).st_mode & 0o7777, data))
'`;
/** The issue of it all: these must be there, with values. */
const CHOSEN = [
  "kernel.kptr_restrict kernel.dmesg_restrict kernel.randomize_va_space kernel.modules_disabled kernel.core_pattern",
  "kernel.yama.ptrace_scope kernel.unprivileged_bpf_disabled kernel.perf_event_paranoid kernel.kexec_load_disabled",
  "kernel.panic_on_oops kernel.modprobe kernel.hostname kernel.pid_max kernel.ftrace_enabled",
  "kernel.unprivileged_userns_clone vm.mmap_min_addr vm.overcommit_memory vm.swappiness vm.unprivileged_userfaultfd",
  "fs.protected_symlinks fs.protected_hardlinks fs.suid_dumpable fs.file-max fs.nr_open net.ipv4.ip_forward",
  "net.ipv4.tcp_syncookies net.ipv4.conf.all.rp_filter net.ipv4.conf.all.accept_redirects net.ipv4.tcp_fin_timeout",
  "net.ipv4.ip_unprivileged_port_start net.ipv6.conf.all.forwarding net.ipv6.conf.all.disable_ipv6 net.core.somaxconn",
  "net.core.bpf_jit_enable net.core.bpf_jit_harden user.max_user_namespaces kernel.msgmax kernel.printk",
  "kernel.tainted kernel.sysrq kernel.threads-max kernel.printk_devkmsg kernel.sem kernel.perf_event_max_sample_rate",
].flatMap((line) => line.split(" "));
/** Functions that show a value as it is: a parameter with one of them has a value. */
const PLAIN = /^proc_do(?:u?int|u?long|string|bool|u8)/;
/** Of every parameter so many have a function that shows them in a way of its own. */
const MADE_UP = 0.12;
/** Parameters that are counters. */
const MOVING = 0.01;

export const comparison: Comparison = {
  table: "kernel_parameters",
  async compare(subject, guest) {
    const before = parse(await subject.lab.exec(COLLECT));
    const rows = read(guest, "kernel_parameters");
    const after = parse(await subject.lab.exec(COLLECT));
    const byName = new Map(rows.map((row) => [String(row.name), row]));
    assert.equal(byName.size, rows.length, "each once");
    assert.deepEqual([...byName.keys()].sort(), [...after.keys()].sort());
    let [compared, moved] = [0, 0];
    for (const [name, { mode, value }] of after) {
      const row = byName.get(name) as Row;
      if (!name.startsWith("net.")) assert.equal(row.mode, mode, name);
      const made = row.value === null || typeof row.value === "object";
      const earlier = before.get(name)?.value;
      assert.ok(!made || value === undefined || !PLAIN.test(String(row.handler)), `${name} by ${String(row.handler)}`);
      if (made || value === undefined) continue;
      // What counts something moves.
      if (value !== earlier) {
        assert.ok(Number.isInteger(Number(row.value)), name);
        moved++;
      } else assert.equal(row.value, value, `${name} by ${String(row.handler)}`);
      compared++;
    }
    assert.ok(compared > after.size * (1 - MADE_UP), `${compared} of ${after.size}`);
    assert.ok(moved < after.size * MOVING, `${moved} moved`);
    const lacking = CHOSEN.filter((name) => after.has(name) && typeof byName.get(name)?.value !== "string");
    assert.deepEqual(lacking, []);
    const where = [{ column: "name", values: ["kernel.kptr_restrict"] }];
    assert.deepEqual(read(guest, "kernel_parameters", { where }), [byName.get("kernel.kptr_restrict")]);
    return `${rows.length} rows, ${compared} values`;
  },
};

function parse(output: string): Map<string, { mode: number; value: string | undefined }> {
  const fields = output.split("\0");
  const found = new Map<string, { mode: number; value: string | undefined }>();
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const name = fields[i]!.split("/")
      .map((part) => part.replaceAll(".", "/"))
      .join(".");
    const data = fields[i + 2]!;
    found.set(name, {
      mode: Number(fields[i + 1]),
      value: data.startsWith("=") ? data.slice(1).replace(/\n$/, "") : undefined,
    });
  }
  return found;
}
