// What the checks of the kernel's hooks find of each trick of the lab.

interface Expected {
  readonly check: string;
  readonly what: RegExp;
}

export const expected: Record<string, readonly Expected[]> = {
  "hook-system-call-table": [
    { check: "system-call-table", what: /system call 217 \(getdents64\) goes to table_call of module lab_tricks/ },
  ],
  "hook-function-entry": [
    { check: "inline-hook", what: /__x64_sys_kill begins with a jmp to jump_kill of module lab_tricks/ },
  ],
  "rewrite-function": [
    { check: "inline-hook", what: /sys_vhangup begins with a mov; jmp to rewritten_vhangup of module lab_tricks/ },
  ],
  "hook-ftrace": [
    {
      check: "ftrace-hooks",
      what: /__x64_sys_getdents64 is hooked by ftrace: redirect of module lab_tricks.*ipmodify/s,
    },
  ],
  "hook-kprobe": [{ check: "kprobe-hooks", what: /commit_creds(\+0x4)? has a kprobe: probe_hit of module lab_tricks/ }],
  "hide-port": [{ check: "function-pointers", what: /tcp4_seq_ops\.show leads to show_socket of module lab_tricks/ }],
  "hook-file-operations": [
    {
      check: "function-pointers",
      what: /proc_root_operations\.iterate_shared leads to filtered_readdir of module lab_tricks/,
    },
  ],
  "hook-inode-operations": [
    {
      check: "function-pointers",
      what: /proc_tgid_base_inode_operations\.permission leads to denying_permission of module lab_tricks/,
    },
  ],
  "hook-line-discipline": [
    { check: "function-pointers", what: /n_tty_ops\.receive_buf2 leads to receive of module lab_tricks/ },
  ],
  "hook-interrupt": [
    { check: "interrupt-table", what: /interrupt 0x[0-9a-f]+ goes to lab_tricks_stub of module lab_tricks/ },
  ],
  "hook-keyboard": [
    {
      check: "kernel-callbacks",
      what: /key_pressed of module lab_tricks .*is told of the events of keyboard_notifier_list/,
    },
  ],
  "hook-netfilter": [
    { check: "kernel-callbacks", what: /packet_received of module lab_tricks .*sees the packets of ipv4 input/ },
  ],
  "kernel-thread": [
    { check: "kernel-threads", what: /kernel thread \d+ \(kworker\/0:7\) runs work of module lab_tricks/ },
  ],
};
