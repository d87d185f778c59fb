// kernel_info against /proc/version, /proc/cmdline, /proc/uptime and the place of the image that /proc/kallsyms shows.
import assert from "node:assert/strict";
import { compareKernelInfo } from "../engine/kernel.ts";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Where the image is linked to begin. */
const LINKED = 0xffff_ffff_8100_0000n;

export const comparison: Comparison = {
  table: "kernel_info",
  async compare(subject, guest) {
    const { lab } = subject;
    const before = await lab.truth();
    const rows = read(guest, "kernel_info");
    const after = await lab.truth();
    assert.equal(rows.length, 1);
    // The lab's CPU has 5-level paging, and uses it unless the kernel is told not to.
    const paging = /\bla57\b/.test(await lab.exec("grep -m 1 ^flags /proc/cpuinfo")) ? "5-level" : "4-level";
    const text = (await lab.kallsyms()).find(({ name }) => name === "_text")!.address;
    compareKernelInfo(rows[0]!, before, after, {
      hostname: lab.name,
      paging,
      kaslr_offset: `0x${(text - LINKED).toString(16)}`,
    });
    return `${Object.keys(rows[0]!).length} columns`;
  },
};
