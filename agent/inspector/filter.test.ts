import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { buildEarlyFilter, buildFilter } from "./filter.ts";

const ALLOW = 0x7fff0000;
const EPERM = 0x00050001;
const ENOSYS = 0x00050026;
const KILL = 0x80000000;
const x86 = 0xc000003e;

interface SystemCall {
  readonly number: number;
  readonly args?: readonly bigint[];
  readonly architecture?: number;
}

/** Runs a classic BPF program as the kernel does, for the instructions that filters use. */
function run(code: Buffer, { number, args = [], architecture = x86 }: SystemCall): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(architecture, 4);
  args.forEach((arg, i) => void data.writeBigUInt64LE(BigInt.asUintN(64, arg), 16 + 8 * i));
  const scratch = new Uint32Array(16);
  let a = 0;
  let x = 0;
  for (let pc = 0; ; pc++) {
    const op = code.readUInt16LE(pc * 8);
    const yes = code[pc * 8 + 2]!;
    const no = code[pc * 8 + 3]!;
    const k = code.readUInt32LE(pc * 8 + 4);
    const jump = (condition: boolean) => {
      pc += condition ? yes : no;
    };
    if (op === 0x20) a = data.readUInt32LE(k);
    else if (op === 0x60) a = scratch[k]!;
    else if (op === 0x61) x = scratch[k]!;
    else if (op === 0x02) scratch[k] = a;
    else if (op === 0x0c) a = (a + x) >>> 0;
    else if (op === 0x04) a = (a + k) >>> 0;
    else if (op === 0x07) x = a;
    else if (op === 0x15) jump(a === k);
    else if (op === 0x25) jump(a > k);
    else if (op === 0x35) jump(a >= k);
    else if (op === 0x3d) jump(a >= x);
    else if (op === 0x45) jump((a & k) !== 0);
    else if (op === 0x05) pc += k;
    else if (op === 0x06) return k;
    else throw new Error(`unknown instruction 0x${op.toString(16)}`);
  }
}

const ranges = [
  { start: 0x7f12_fff0_0000, end: 0x7f13_0010_0000 },
  { start: 0x7f20_0000_0000, end: 0x7f21_8000_0000 },
  { start: 0x1000, end: 0x3000 },
];
const filter = buildFilter([{ fd: 4 }, { fd: 5, ranges }], 2);
const pread = (fd: number, count: bigint, offset: bigint) =>
  run(filter, { number: 17, args: [BigInt(fd), 0n, count, offset] });

test("process memory can be read within the guest's ranges, and nowhere else", () => {
  const edges = ranges.flatMap(({ start, end }) => [start, end]).map(BigInt);
  const near = fc
    .tuple(fc.constantFrom(...edges, 0n, 1n << 32n, 1n << 63n, (1n << 64n) - 1n), fc.bigInt(-0x2000n, 0x2000n))
    .map(([edge, delta]) => BigInt.asUintN(64, edge + delta));
  const offset = fc.oneof(near, fc.bigInt(0n, (1n << 64n) - 1n));
  const count = fc.oneof(fc.bigInt(0n, 0x3000n), fc.constantFrom(0x1000000n, 0x1000001n, 1n << 32n, (1n << 64n) - 1n));
  fc.assert(
    fc.property(count, offset, (size, at) => {
      const inside = ranges.some(({ start, end }) => at >= BigInt(start) && at + size <= BigInt(end));
      assert.equal(pread(5, size, at), inside && size <= 0x1000000n ? ALLOW : EPERM);
    }),
    { numRuns: 5000 },
  );
});

test("exactly a range's first and last bytes", () => {
  for (const { start, end } of ranges) {
    assert.equal(pread(5, 1n, BigInt(start)), ALLOW);
    assert.equal(pread(5, 1n, BigInt(start) - 1n), EPERM);
    assert.equal(pread(5, 0x1000n, BigInt(end) - 0x1000n), ALLOW);
    assert.equal(pread(5, 0x1000n, BigInt(end) - 0xfffn), EPERM);
  }
});

test("a file of guest memory anywhere, any other descriptor nowhere", () => {
  assert.equal(pread(4, 1n << 40n, 1n << 50n), ALLOW);
  for (const fd of [0, 1, 3, 6, -1]) assert.equal(pread(fd, 1n, 0x1000n), EPERM);
});

test("calls that depend on their arguments", () => {
  const cases: [string, number, bigint[], number][] = [
    ["mmap of nothing", 9, [0n, 4096n, 3n, 0x22n, -1n, 0n], ALLOW],
    ["mmap of a file", 9, [0n, 4096n, 1n, 0x1n, 4n, 0n], EPERM],
    ["clone of a thread", 56, [0x3d0f00n], ALLOW],
    ["fork by clone", 56, [0x1200011n], EPERM],
    ["clone into a user namespace", 56, [0x10010000n], EPERM],
    ["clone3", 435, [0n, 88n], ENOSYS],
    ["a signal to itself", 234, [2n, 2n, 6n], ALLOW],
    ["a signal to another", 234, [1n, 1n, 9n], EPERM],
    ["ioctl FIONBIO", 16, [3n, 0x5421n], ALLOW],
    ["ioctl TIOCSTI", 16, [0n, 0x5412n], EPERM],
    ["prctl naming a thread", 157, [15n], ALLOW],
    ["prctl making it dumpable", 157, [4n, 1n], EPERM],
    ["fcntl F_DUPFD", 72, [3n, 0n], EPERM],
  ];
  for (const [name, number, args, answer] of cases) assert.equal(run(filter, { number, args }), answer, name);
});

test("what is not named is refused, other calling conventions kill", () => {
  const refused = {
    open: 2,
    lseek: 8,
    readv: 19,
    socket: 41,
    fork: 57,
    execve: 59,
    kill: 62,
    ptrace: 101,
    openat: 257,
  };
  for (const [name, number] of Object.entries(refused)) assert.equal(run(filter, { number }), EPERM, name);
  for (const number of [310, 311, 323, 425, 426, 600]) assert.equal(run(filter, { number }), EPERM, String(number));
  for (const code of [filter, buildEarlyFilter()]) {
    assert.equal(run(code, { number: 0x40000000 }), KILL);
    assert.equal(run(code, { number: 0, architecture: 0x40000003 }), KILL);
  }
});

test("the early filter leaves a program able to start, but never lets io_uring in", () => {
  const early = buildEarlyFilter();
  for (const number of [425, 426, 427, 41, 101, 310, 321]) assert.equal(run(early, { number }), ENOSYS, String(number));
  for (const number of [0, 2, 9, 56, 59, 257, 317]) assert.equal(run(early, { number }), ALLOW, String(number));
});
