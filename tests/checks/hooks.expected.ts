// What the checks of the kernel's hooks find of each trick of the lab.
import type { ExpectedFinding, ExpectedFindings } from "./expected.ts";

/** A function of the lab's module; by its address only where the module hides itself at the same time. */
function module(name: string): string {
  return String.raw`(${name} of module lab_tricks \(taints OE\)|0xffffffff[0-9a-f]{8}, which is in no module)`;
}

function found(check: string, what: string): readonly ExpectedFinding[] {
  return [{ check, what: new RegExp(what) }];
}

export const expected: ExpectedFindings = {
  "hook-system-call-table": found(
    "system-call-table",
    `system call 217 \\(getdents64\\) goes to ${module("table_call")}`,
  ),
  "hook-function-entry": [
    ...found("inline-hook", `__x64_sys_kill begins with a jmp to ${module("jump_kill")}`),
    ...found("kernel-text", `text was changed at __x64_sys_kill(\\+0x4)?: jmp to ${module("jump_kill")}`),
  ],
  "rewrite-function": [
    ...found("inline-hook", `sys_vhangup begins with a mov; jmp to ${module("rewritten_vhangup")}`),
    ...found("kernel-text", `text was changed at \\w*sys_vhangup(\\+0x4)?: mov; jmp to ${module("rewritten_vhangup")}`),
  ],
  "hook-ftrace": found(
    "ftrace-hooks",
    `__x64_sys_getdents64 is hooked by ftrace: ${module("redirect")}[^]* flags enabled [a-z_ ]*ipmodify`,
  ),
  "hook-kprobe": found("kprobe-hooks", `commit_creds(\\+0x4)? has a kprobe: ${module("probe_hit")}`),
  "hide-port": found("function-pointers", `tcp4_seq_ops\\.show leads to ${module("show_socket")}`),
  "hook-file-operations": found(
    "function-pointers",
    `proc_root_operations\\.iterate_shared leads to ${module("filtered_readdir")}`,
  ),
  "hook-inode-operations": found(
    "function-pointers",
    `proc_tgid_base_inode_operations\\.permission leads to ${module("denying_permission")}`,
  ),
  "hook-line-discipline": found("function-pointers", `n_tty_ops\\.receive_buf2 leads to ${module("receive")}`),
  "hook-interrupt": found("interrupt-table", `interrupt 0x[0-9a-f]{2} goes to ${module("lab_tricks_stub")}`),
  "hook-keyboard": found(
    "kernel-callbacks",
    `${module("key_pressed")} is told of the events of keyboard_notifier_list`,
  ),
  "hook-netfilter": found("kernel-callbacks", `${module("packet_received")} sees the packets of ipv4 input`),
  "kernel-thread": found("kernel-threads", `kernel thread \\d+ \\(kworker/0:7\\) runs ${module("work")}`),
};
