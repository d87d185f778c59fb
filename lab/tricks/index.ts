/**
 * What an intruder does to a guest, to be found by checks: each can be played and undone in a guest booted with `tricks`.
 *
 * ```ts
 * await using guest = await bootGuest({ kernel: "6.12", tricks: true });
 * for (const trick of tricks) {
 *   const evidence = await trick.start(guest);
 *   await trick.stop(guest);
 * }
 * ```
 */
import { loadedModule, moduleTrick } from "./module.ts";
import { programTrick } from "./programs.ts";
import type { Trick } from "./trick.ts";

const victim = { about: "victim" } as const;

/** Every trick. Those of the module load it, and it stays loaded; the last one can't be unloaded after it was played. */
export const tricks: readonly Trick[] = [
  programTrick("inject-memory", "a process writes code into memory that it may write and execute, and runs it"),
  programTrick("inject-process", "code is written into another process, into memory that it was made to map"),
  programTrick("deleted-executable", "a program deletes its own file and goes on"),
  programTrick("memory-executable", "a program runs from a file that never was on a disk"),
  programTrick("trace-process", "a process traces another"),
  programTrick("preload-library", "a library in /tmp is loaded into a program before its own ones"),
  programTrick("false-name", "a process has the name and the arguments of a thread of the kernel"),
  programTrick("raw-socket", "a process has a raw socket"),
  programTrick("packet-socket", "a process has a socket that gets every packet"),
  programTrick("promiscuous-interface", "an interface takes packets that are for others"),
  programTrick("bpf-kprobe", "a BPF program is called at each listing of a folder, by a kprobe"),
  programTrick("bpf-writer", "a BPF program that may write into processes is called at each system call"),
  loadedModule,
  moduleTrick("hide-process", "a process is taken out of the list of all tasks", victim),
  moduleTrick("hide-process-number", "a process is taken out of the tree of numbers, and so of /proc", victim),
  moduleTrick("raise-credentials", "root's ids and all capabilities are written into a process's credentials", victim),
  moduleTrick("share-credentials", "a process gets the credentials of the kernel's first task", victim),
  moduleTrick("hide-module", "the module takes itself out of the list of modules"),
  moduleTrick("hook-system-call-table", "the entry of getdents64 in the table of system calls leads to the module"),
  moduleTrick(
    "hook-function-entry",
    "the first instruction of kill() jumps to the module, which protects a process",
    victim,
  ),
  moduleTrick("rewrite-function", "the beginning of vhangup() is overwritten with a jump to the module"),
  moduleTrick("hook-ftrace", "getdents64() is redirected by ftrace, and leaves a process out of /proc", victim),
  moduleTrick("hook-kprobe", "a kprobe of the module is called when a process gets other credentials"),
  moduleTrick("hide-port", "the function that shows a socket in /proc/net/tcp is replaced, and leaves out a port", {
    about: "listener",
  }),
  moduleTrick("hook-file-operations", "the function that lists /proc is replaced, and leaves out a process", victim),
  moduleTrick(
    "hook-inode-operations",
    "the function that lets into the folders of /proc is replaced, and denies one",
    victim,
  ),
  moduleTrick("hook-line-discipline", "the function that takes what is typed on terminals is replaced"),
  moduleTrick("hook-interrupt", "an interrupt that is not in use has a handler in the module", { number: "vector" }),
  moduleTrick("hook-keyboard", "a function of the module is told each key that is pressed"),
  moduleTrick("hook-netfilter", "a function of the module is told each packet that is received"),
  moduleTrick("kernel-thread", "a thread of the kernel runs code of the module", { number: "pid" }),
  moduleTrick(
    "hide-module-everywhere",
    "the module is in no list of modules, not in /sys, nor in the tree of addresses",
  ),
];
