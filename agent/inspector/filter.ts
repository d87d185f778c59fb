/**
 * The system calls that an inspector may still make once it has its guest's memory. Everything else fails with EPERM.
 * x86-64 only: elsewhere the layer is reported as missing.
 */
import { Assembler, data } from "./bpf.ts";

const AUDIT_ARCH_X86_64 = 0xc000003e;
/** Numbers from here on are the x32 ABI, which this filter would otherwise misread. */
const X32 = 0x40000000;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const KILL_PROCESS = 0x80000000;
const EPERM = 1;
const ENOSYS = 38;

/** Whether this machine's system calls are those that the filters know. */
export const seccompKnown = process.arch === "x64" && process.platform === "linux";

/** Needed by V8, libuv and the C library to go on running, whatever the arguments. None names a file, a socket or another process. */
const plain = {
  read: 0,
  write: 1,
  close: 3,
  fstat: 5,
  poll: 7,
  munmap: 11,
  brk: 12,
  rt_sigaction: 13,
  rt_sigprocmask: 14,
  rt_sigreturn: 15,
  writev: 20,
  sched_yield: 24,
  mremap: 25,
  madvise: 28,
  nanosleep: 35,
  getpid: 39,
  shutdown: 48,
  exit: 60,
  fsync: 74,
  gettimeofday: 96,
  getrusage: 98,
  getuid: 102,
  getgid: 104,
  geteuid: 107,
  getegid: 108,
  sigaltstack: 131,
  gettid: 186,
  sched_getparam: 143,
  sched_getscheduler: 145,
  time: 201,
  futex: 202,
  sched_getaffinity: 204,
  restart_syscall: 219,
  clock_gettime: 228,
  clock_getres: 229,
  clock_nanosleep: 230,
  exit_group: 231,
  epoll_wait: 232,
  epoll_ctl: 233,
  set_robust_list: 273,
  epoll_pwait: 281,
  getcpu: 309,
  getrandom: 318,
  membarrier: 324,
  rseq: 334,
  epoll_pwait2: 441,
} as const;

const MMAP = 9;
const MPROTECT = 10;
const IOCTL = 16;
const PREAD64 = 17;
const CLONE = 56;
const FCNTL = 72;
const PRCTL = 157;
const TGKILL = 234;
const PKEY_MPROTECT = 329;
const CLONE3 = 435;

const MAP_ANONYMOUS = 0x20;
const CLONE_THREAD = 0x10000;
const CLONE_NEW_NAMESPACES = 0x7e020080;
const FIONBIO = 0x5421;
const FIOCLEX = 0x5451;
const F_GETFD = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const PR_SET_NAME = 15;
const PR_SET_VMA = 0x53564d41;

/** More than this at once from a hypervisor's memory is refused. */
const largestRead = 0x1000000;

/** Where a descriptor of memory may be read. */
export interface ReadableMemory {
  readonly fd: number;
  /** Byte offsets [start, end); undefined: anywhere, for files that hold nothing but guest memory. */
  readonly ranges?: readonly { readonly start: number; readonly end: number }[];
}

/**
 * What is out of reach from the very first instruction of the process, set by whoever starts it. io_uring above all: libuv
 * would set up a ring at start, and a ring makes system calls that no later filter sees.
 */
const neverNeeded = {
  socket: 41,
  connect: 42,
  bind: 49,
  ptrace: 101,
  mount: 165,
  process_vm_readv: 310,
  process_vm_writev: 311,
  bpf: 321,
  userfaultfd: 323,
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
} as const;

export function buildEarlyFilter(): Buffer {
  const program = begin();
  for (const number of Object.values(neverNeeded)) only(program, number, () => program.answer(ERRNO | ENOSYS));
  program.answer(ALLOW);
  return program.assemble();
}

/** A filter's beginning: leaves the number of a native system call in A. */
function begin(): Assembler {
  const program = new Assembler();
  program.load(data.architecture).ifEqual(AUDIT_ARCH_X86_64, "native").answer(KILL_PROCESS);
  program.label("native").load(data.number).ifAtLeast(X32, "x32", "checked");
  program.label("x32").answer(KILL_PROCESS).label("checked");
  return program;
}

/** @param pid of the process itself, in its own pid namespace: the only one that it may signal. */
export function buildFilter(memory: readonly ReadableMemory[], pid: number): Buffer {
  const program = begin();
  for (const number of Object.values(plain)) only(program, number, () => program.answer(ALLOW));
  only(program, MMAP, () => {
    program.load(data.low(3));
    permitIf(program, (allow, deny) => program.ifAny(MAP_ANONYMOUS, allow, deny));
  });
  // What has been mapped read only from a descriptor opened read only stays so: the kernel refuses PROT_WRITE.
  only(program, MPROTECT, () => program.answer(ALLOW));
  only(program, PKEY_MPROTECT, () => program.answer(ALLOW));
  oneOf(program, IOCTL, 1, [FIONBIO, FIOCLEX]);
  oneOf(program, FCNTL, 1, [F_GETFD, F_GETFL, F_SETFL]);
  oneOf(program, PRCTL, 0, [PR_SET_NAME, PR_SET_VMA]);
  oneOf(program, TGKILL, 0, [pid]);
  only(program, CLONE, () => {
    program.load(data.low(0));
    permitIf(program, (allow, deny) => {
      program.ifAny(CLONE_NEW_NAMESPACES, deny).ifAny(CLONE_THREAD, allow, deny);
    });
  });
  // Its flags are in memory, out of a filter's sight; the C library then falls back to clone.
  only(program, CLONE3, () => program.answer(ERRNO | ENOSYS));
  only(program, PREAD64, () => permitReads(program, memory));
  program.answer(ERRNO | EPERM);
  return program.assemble();
}

/** Runs `body`, which must answer on every path, for one system call. A holds the call's number before and, if it isn't this one, after. */
function only(program: Assembler, number: number, body: () => void): void {
  const other = program.fresh();
  const match = program.fresh();
  // A short hop over a long one: a conditional jump might not reach past the body.
  program.ifEqual(number, match).goto(other).label(match);
  body();
  program.label(other);
}

function permitIf(program: Assembler, test: (allow: string, deny: string) => void): void {
  const allow = program.fresh();
  const deny = program.fresh();
  test(allow, deny);
  program.label(deny).answer(ERRNO | EPERM);
  program.label(allow).answer(ALLOW);
}

function oneOf(program: Assembler, number: number, argument: number, values: readonly number[]): void {
  only(program, number, () => {
    program.load(data.low(argument));
    permitIf(program, (allow, deny) => {
      for (const value of values) program.ifEqual(value, allow);
      program.goto(deny);
    });
  });
}

const COUNT = 0;
const END_LOW = 1;
const END_HIGH = 2;

/** pread64(fd, buffer, count, offset): the descriptor must be of memory, and [offset, offset + count) within one of its ranges. */
function permitReads(program: Assembler, memory: readonly ReadableMemory[]): void {
  for (const { fd, ranges } of memory) {
    const otherFd = program.fresh();
    const sameFd = program.fresh();
    program.load(data.low(0)).ifEqual(fd, sameFd).goto(otherFd).label(sameFd);
    if (ranges) permitRanges(program, ranges);
    else program.answer(ALLOW);
    program.label(otherFd);
  }
  program.answer(ERRNO | EPERM);
}

function permitRanges(program: Assembler, ranges: readonly { readonly start: number; readonly end: number }[]): void {
  const tooLong = program.fresh();
  const short = program.fresh();
  const carry = program.fresh();
  const summed = program.fresh();
  program.load(data.high(2)).ifEqual(0, undefined, tooLong);
  // An end past 2^64 would come around as a small number.
  program.load(data.high(3)).ifAtLeast(0x80000000, tooLong);
  program.load(data.low(2)).ifGreater(largestRead, tooLong, short);
  program.label(tooLong).answer(ERRNO | EPERM);
  // end = offset + count in 64 bits: the low words carry when their sum is less than a summand.
  program.label(short).store(COUNT).copyToX().load(data.low(3)).addX().store(END_LOW);
  program.ifAtLeastX(undefined, carry);
  program.load(data.high(3)).goto(summed);
  program.label(carry).load(data.high(3)).add(1);
  program.label(summed).store(END_HIGH);
  for (const { start, end } of ranges) {
    const next = program.fresh();
    const started = program.fresh();
    const equalStart = program.fresh();
    const allow = program.fresh();
    program.load(data.high(3)).ifGreater(high(start), started).ifEqual(high(start), equalStart, next);
    program.label(equalStart).load(data.low(3)).ifAtLeast(low(start), undefined, next);
    program.label(started).recall(END_HIGH).ifGreater(high(end), next).ifEqual(high(end), undefined, allow);
    program.recall(END_LOW).ifGreater(low(end), next, allow);
    program.label(allow).answer(ALLOW);
    program.label(next);
  }
  program.answer(ERRNO | EPERM);
}

function low(value: number): number {
  return value % 2 ** 32;
}
function high(value: number): number {
  return Math.floor(value / 2 ** 32);
}
