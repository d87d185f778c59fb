// What the checks of processes, their sockets, modules and eBPF programs find of each trick: see tricks.test.ts.
import type { ExpectedFindings } from "./expected.ts";

export const expected: ExpectedFindings = {
  "inject-memory": [
    {
      check: "injected-memory",
      what: /process \d+ \(python3\) may execute memory that is of no file, which it may also write.* rwxp of process \d+ \(python3\).*, 4 KiB; \/usr\/bin\/python3/s,
    },
  ],
  "inject-process": [
    {
      check: "injected-memory",
      what: /process \d+ \(busybox\) may execute memory that is of no file, which it may also write.* rwxp of process \d+ \(busybox\).*, 4 KiB; \/bin\/busybox/s,
    },
  ],
  "deleted-executable": [
    { check: "deleted-executable", what: /process \d+ \(\.trick\) runs a deleted program, \/tmp\/\.trick/ },
  ],
  "memory-executable": [
    { check: "deleted-executable", what: /process \d+ \(\d+\) runs a program that was never on a disk, \/memfd:trick/ },
  ],
  "preload-library": [
    {
      check: "preloaded-library",
      what: /process \d+ \(python3, .*\) was started with LD_PRELOAD=\/tmp\/\.trick\.so, which took effect.*mapped: \/tmp\/\.trick\.so/s,
    },
  ],
  "trace-process": [
    { check: "traced-process", what: /process \d+ \(busybox\) is traced by process \d+ \(python3, .*PTRACED SEIZED/s },
  ],
  "false-name": [
    {
      check: "false-name",
      what: /process \d+ \(kworker\/0:1\) is called as a thread of the kernel \(name kworker\/0:1, arguments \[kworker\/0:1\]\), and runs \/usr\/bin\/python3/,
    },
  ],
  "raw-socket": [{ check: "raw-sockets", what: /process \d+ \(python3, .*\) has raw sockets: ICMP of IPv4/ }],
  "packet-socket": [{ check: "packet-sockets", what: /process \d+ \(python3, .*\) has packet sockets: every packet/ }],
  "promiscuous-interface": [
    {
      check: "promiscuous-interface",
      what: /interface dummy0 takes packets that are for others.*promiscuity 1; packet sockets there: .*python3/s,
    },
    { check: "packet-sockets", what: /process \d+ \(python3, .*\) has packet sockets: none yet/ },
  ],
  "bpf-kprobe": [
    {
      check: "ebpf-programs",
      what: /eBPF program \d+ \(trick_kprobe\) is called at __x64_sys_getdents64.*held by process \d+ \(python3, .*what lists directories/s,
    },
  ],
  "bpf-writer": [
    {
      check: "ebpf-programs",
      what: /eBPF program \d+ \(trick_writer\) is called at sys_enter, and may write into the memory of processes.*calls bpf_probe_write_user/s,
    },
  ],
  "load-module": [
    {
      check: "tainted-module",
      // Where another trick hides the module, only what it left on the kernel is there.
      what: /(module lab_tricks is not of the kernel's own source, is not signed.*taints OE, signature not right)|(tainted by a module that is not loaded: .*is not signed)/s,
    },
  ],
  "raise-credentials": [
    {
      check: "raised-credentials",
      what: /process \d+ \(busybox\) has user id 0, and the kernel counts it as one of user 2\d{4}.*user->uid 2\d{4}, ucounts->uid 2\d{4}/s,
    },
  ],
  "share-credentials": [
    {
      check: "shared-credentials",
      what: /process \d+ \(busybox\) has credentials that are the kernel's own \(init_cred\)/,
    },
  ],
};
