// Started in place of an inspector: gives up its rights as an inspector does, then tries to have them back.
// Standard input is the layout: backing 0 is a file of guest memory, backing 1 the memory of another process.
import { spawnSync } from "node:child_process";
import { openSync, readSync, writeSync } from "node:fs";
import { connect } from "node:net";
import koffi from "koffi";
import { start } from "../../../agent/inspector/start.ts";

const libc = koffi.load("libc.so.6");
const call = libc.func("int64_t syscall(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)");
const mmap = libc.func("int64_t mmap(int64_t at, size_t length, int prot, int flags, int fd, int64_t offset)");
const names = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));

const identity = libc.func("void *memmove(void *target, const void *source, size_t length)");

function addressOf(buffer: Buffer): bigint {
  return koffi.address(identity(buffer, buffer, 0));
}

/** What a system call answers: "ok", or the name of its error. */
function tryCall(number: number, ...args: (number | bigint)[]): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  const result = Number(call(number, a, b, c, d, e, f));
  return result === -1 ? (names.get(koffi.errno()) ?? "unknown") : "ok";
}

function tryNode(work: () => unknown): string {
  try {
    work();
    return "ok";
  } catch (error) {
    return String(Reflect.get(Object(error), "code"));
  }
}

const path = Buffer.from("/etc/passwd\0");
const pathAddress = addressOf(path);
const page = Buffer.alloc(8192);
const pageAddress = addressOf(page);
// Mapped while that is still allowed, to see that it can't be made writable later.
const mapped = Number(mmap(0, 4096, 1, 1, 4, 0));

const { layout, agent } = start();
const [file, other] = layout.backings.map(({ fd }) => fd);
const range = layout.ranges.find(({ backing }) => backing === 1)!;
const end = range.offset + range.length;

/** Harmless even where it succeeds: these are tried without a filter too, to see that the probe finds what is open. */
const reading = {
  "read guest memory": () => tryNode(() => readSync(other!, page, 0, 4096, range.offset)),
  "read its last page": () => tryNode(() => readSync(other!, page, 0, 4096, end - 4096)),
  "read past its end": () => tryNode(() => readSync(other!, page, 0, 4096, end - 4095)),
  "read before it": () => tryNode(() => readSync(other!, page, 0, 1, range.offset - 1)),
  "read elsewhere": () => tryNode(() => readSync(other!, page, 0, 1, 0x400000)),
  preadv: () => tryCall(295, other!, pageAddress, 1, range.offset, 0),
  "read at the position": () => tryCall(0, other!, pageAddress, 16),
  "write to guest memory": () => tryNode(() => writeSync(file!, page, 0, 1, null)),
  "pwrite to guest memory": () => tryCall(18, file!, pageAddress, 1, 0),
  "make the mapping writable": () => tryCall(10, mapped, 4096, 3),
  "map the file": () => tryCall(9, 0, 4096, 1, 1, file!, 0),
  "map the other process": () => tryCall(9, 0, 4096, 1, 1, other!, 0),
  "open by Node": () => tryNode(() => openSync("/etc/passwd", "r")),
  open: () => tryCall(2, pathAddress, 0),
  openat: () => tryCall(257, -100, pathAddress, 0),
  stat: () => tryCall(4, pathAddress, pageAddress),
  "socket, internet": () => tryCall(41, 2, 1, 0),
  "socket, unix": () => tryCall(41, 1, 1, 0),
  socketpair: () => tryCall(53, 1, 1, 0, pageAddress),
  pidfd_open: () => tryCall(434, 1, 0),
  memfd_create: () => tryCall(319, pathAddress, 0),
  lseek: () => tryCall(8, other!, range.offset, 0),
};

/** Only tried behind a filter. */
const changing = {
  openat2: () => tryCall(437, -100, pathAddress, pageAddress, 24),
  sendmsg: () => tryCall(46, 3, pageAddress, 0),
  "spawn by Node": () => String(Reflect.get(Object(spawnSync("/node", ["--version"]).error), "code") ?? "ok"),
  fork: () => tryCall(57),
  vfork: () => tryCall(58),
  execve: () => tryCall(59, pathAddress, 0, 0),
  kill: () => tryCall(62, 1, 0),
  "tgkill of another": () => tryCall(234, 1, 1, 0),
  ptrace: () => tryCall(101, 16, 1, 0, 0),
  process_vm_readv: () => tryCall(310, 1, pageAddress, 0, pageAddress, 0, 0),
  setuid: () => tryCall(105, 0),
  setgroups: () => tryCall(116, 0, 0),
  capset: () => tryCall(126, pageAddress, 0),
  unshare: () => tryCall(272, 0x10000000),
  mount: () => tryCall(165, pathAddress, pathAddress, 0, 0, 0),
  io_uring_setup: () => tryCall(425, 8, pageAddress),
  bpf: () => tryCall(321, 0, pageAddress, 8),
  dup: () => tryCall(32, 3),
  userfaultfd: () => tryCall(323, 0),
  "prctl, dumpable": () => tryCall(157, 4, 1, 0, 0, 0),
  "a second filter": () => tryCall(317, 1, 0, 0),
  sysinfo: () => tryCall(99, pageAddress),
};

const attempts = { ...reading, ...(process.env.CLOUDVMI_SECCOMP ? changing : {}) };
const results: Record<string, string> = {};
for (const [what, attempt] of Object.entries(attempts)) results[what] = attempt();

const socket = connect(Number(process.env.PROBE_PORT), "127.0.0.1");
const finish = (answer: string) => {
  results["connect by Node"] = answer;
  results.uid = String(process.getuid!());
  agent.end(JSON.stringify(results));
  // Stays for a while, so that it can be looked at from outside.
  setTimeout(() => {}, 10_000);
};
socket.once("error", (error) => finish(String(Reflect.get(error, "code"))));
socket.once("connect", () => finish("ok"));
