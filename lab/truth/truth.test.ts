import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { readArchive } from "./archive.ts";
import { textOf } from "./bytes.ts";
import { parseIomem, parseKallsyms, parseModules } from "./kernel.ts";
import { nulTerminated, parseStat, parseStatus, parseTruth } from "./truth.ts";

const statLine = (comm: string, flags = 4194560) =>
  `115 (${comm}) S 111 115 115 0 -1 ${flags} 90 0 0 0 7 8 0 0 30 10 3 0 456 3108864 250 18446744073709551615`;

test("stat: the name ends at the last parenthesis", () => {
  const stat = parseStat(statLine("a) R 1 (b"));
  assert.deepEqual(
    [stat.pid, stat.comm, stat.state, stat.ppid, stat.nice, stat.numThreads, stat.starttime, stat.vsize, stat.rss],
    [115, "a) R 1 (b", "S", 111, 10, 3, 456, 3108864, 250],
  );
  assert.throws(() => parseStat("115 gone"), /not a line/);
});

test("status: values keep their colons", () => {
  const status = parseStatus("Name:\tsh\nUid:\t1000\t1001\t1001\t1001\nx:\ta:b\n");
  assert.deepEqual(
    [...status],
    [
      ["Name", "sh"],
      ["Uid", "1000\t1001\t1001\t1001"],
      ["x", "a:b"],
    ],
  );
});

test("arguments: empty ones count, also at the end", () => {
  assert.deepEqual(nulTerminated(Buffer.from("sh\0\0two words\0\0")), ["sh", "", "two words", ""]);
  assert.deepEqual(nulTerminated(Buffer.from("unterminated")), ["unterminated"]);
  assert.deepEqual(nulTerminated(Buffer.alloc(0)), []);
});

test("text: bytes that are not UTF-8 stay apart from each other and from U+FFFD", () => {
  assert.equal(textOf(Buffer.from("naïve ☃ 🎉")), "naïve ☃ 🎉");
  assert.equal(textOf(Buffer.from("caf\xe9 \xff", "latin1")), "caf\udce9 \udcff");
  assert.equal(textOf(Buffer.from([0xe2, 0x98, 0x41, 0xc0, 0x80])), "\udce2\udc98A\udcc0\udc80");
  assert.equal(
    textOf(Buffer.concat([Buffer.from("\ufffd☃"), Buffer.from([0xed, 0xa0, 0x80])])),
    "\ufffd☃\udced\udca0\udc80",
  );
});

test("modules", () => {
  assert.deepEqual(
    parseModules("stp 16384 1 bridge, Live 0xffffffffc0358000\nbad 8192 0 - Loading 0xffffffffc0400000 (OE)\n"),
    [
      {
        name: "stp",
        size: 16384,
        references: 1,
        usedBy: ["bridge"],
        state: "Live",
        address: 0xffffffffc0358000n,
        taints: "",
      },
      {
        name: "bad",
        size: 8192,
        references: 0,
        usedBy: [],
        state: "Loading",
        address: 0xffffffffc0400000n,
        taints: "OE",
      },
    ],
  );
});

test("iomem and kallsyms", () => {
  assert.deepEqual(parseIomem("00100000-1ffdffff : System RAM\n  0b000000-0c0020f6 : Kernel code\n"), [
    { start: 0x100000, end: 0x1ffdffff, name: "System RAM", depth: 0 },
    { start: 0xb000000, end: 0xc0020f6, name: "Kernel code", depth: 1 },
  ]);
  assert.deepEqual(parseKallsyms("ffffffffa6e00000 T _text\nffffffffc0358000 t stp_init\t[stp]\n"), [
    { address: 0xffffffffa6e00000n, type: "T", name: "_text", module: undefined },
    { address: 0xffffffffc0358000n, type: "t", name: "stp_init", module: "stp" },
  ]);
});

/** An archive as lab/guest/control.py makes it. */
function archive(records: [string, number, string][]): Buffer {
  const parts = records.map(([name, kind, data]) => {
    const head = Buffer.alloc(7);
    head.writeUInt16LE(name.length, 0);
    head.writeUInt8(kind, 2);
    head.writeUInt32LE(Buffer.byteLength(data), 3);
    return Buffer.concat([head, Buffer.from(name), Buffer.from(data)]);
  });
  return deflateSync(Buffer.concat(parts));
}

const kernelFiles: [string, number, string][] = [
  ["/proc/modules", 0, ""],
  ["/proc/uptime", 0, "12.50 3.00\n"],
  ["/proc/cmdline", 0, "console=ttyS0 quiet\n"],
  ["/proc/version", 0, "Linux version 6.1.0-56-cloud-amd64 (x) #1 SMP\n"],
  ["/proc/stat", 0, "cpu 1 2\nbtime 1795425980\n"],
  ["/proc/iomem", 0, ""],
  ["/proc/meminfo", 0, "MemTotal:         480000 kB\n"],
  ["/proc/sys/kernel/random/boot_id", 0, "0b7c\n"],
];

test("truth: what a process has is told by its next thread where the first one has ended", () => {
  const ended = (pid: number) =>
    statLine("gone").replace("115", String(pid)).replace(") S", ") Z").replace("3108864 250", "0 0");
  const { processes } = parseTruth(
    readArchive(
      archive([
        ["/proc/120/stat", 0, ended(120)],
        ["/proc/120/status", 0, "Uid:\t1\t1\t1\t1\nThreads:\t3\n"],
        ["/proc/120/task/120/stat", 0, ended(120)],
        ["/proc/120/task/121/stat", 0, ended(121)],
        ["/proc/120/task/122/stat", 0, statLine("lives").replace("115", "122")],
        ["/proc/120/task/122/status", 0, "Uid:\t2\t2\t2\t2\nVmLck:\t4 kB\n"],
        ["/proc/120/task/122/exe", 1, "/bin/a"],
        ["/proc/120/task/122/cmdline", 0, "a\0b\0"],
        ["/proc/120/task/122/fd/3", 1, "/dev/null"],
        ["/proc/120/task/122/ns/net", 1, "net:[7]"],
        ["/proc/130/stat", 0, ended(130)],
        ["/proc/130/status", 0, "Threads:\t1\n"],
        ...kernelFiles,
      ]),
    ),
  );
  const { folder, exe, argv, files, namespaces, stat, status, uids, threads, ended: whole } = processes.get(120)!;
  assert.deepEqual([folder, exe, argv, whole], ["/proc/120/task/122", "/bin/a", ["a", "b"], false]);
  assert.deepEqual(
    [...files, ...namespaces],
    [
      [3, "/dev/null"],
      ["net", "net:[7]"],
    ],
  );
  assert.deepEqual([stat.state, stat.vsize, stat.rss, status.get("VmLck"), uids[0]], ["Z", 3108864, 250, "4 kB", 1]);
  assert.deepEqual(
    threads.map(({ tid, stat: of }) => tid + of.state),
    ["120Z", "121Z", "122S"],
  );
  assert.deepEqual([processes.get(130)!.folder, processes.get(130)!.ended], ["/proc/130", true]);
});

test("truth: threads, links and namespaces find their process, and one that ended is left out", () => {
  const truth = parseTruth(
    readArchive(
      archive([
        ["/proc/115/stat", 0, statLine("server")],
        ["/proc/115/status", 0, "Uid:\t33\t34\t35\t36\nGid:\t1\t2\t3\t4\n"],
        ["/proc/115/cgroup", 0, "0::/web\n"],
        ["/proc/115/ns/pid", 1, "pid:[4026531836]"],
        ["/proc/115/cmdline", 0, "server\0-v\0"],
        ["/proc/115/environ", 0, "A=1\0"],
        ["/proc/115/exe", 1, "/bin/server (deleted)"],
        ["/proc/115/cwd", 2, "2"],
        ["/proc/115/fd/3", 1, "socket:[17]"],
        ["/proc/115/task/117/stat", 0, statLine("w 2").replace("115", "117")],
        ["/proc/115/task/115/stat", 0, statLine("server")],
        ["/proc/116/stat", 0, statLine("brief").replace("115", "116")],
        ["/proc/116/status", 2, "3"],
        ["/proc/2/stat", 0, statLine("kthreadd", 2129984).replace("115", "2")],
        ["/proc/2/status", 0, "Uid:\t0\t0\t0\t0\n"],
        ...kernelFiles,
      ]),
    ),
  );
  assert.deepEqual([...truth.processes.keys()], [115, 2]);
  const server = truth.processes.get(115)!;
  assert.deepEqual(
    server.threads.map(({ tid, stat }) => [tid, stat.comm]),
    [
      [115, "server"],
      [117, "w 2"],
    ],
  );
  assert.deepEqual([server.uids, server.argv, server.env], [[33, 34, 35, 36], ["server", "-v"], ["A=1"]]);
  assert.deepEqual([server.exe, server.cwd, server.cgroup], ["/bin/server (deleted)", null, "/web"]);
  assert.deepEqual(
    [...server.namespaces, ...server.files],
    [
      ["pid", "pid:[4026531836]"],
      [3, "socket:[17]"],
    ],
  );
  assert.deepEqual([server.kernelThread, truth.processes.get(2)!.kernelThread], [false, true]);
  assert.deepEqual(
    [truth.release, truth.uptime, truth.bootTime, truth.memTotalKiB, truth.bootId],
    ["6.1.0-56-cloud-amd64", 12.5, 1795425980, 480000, "0b7c"],
  );
});

test("an archive that is cut off is refused", () => {
  const whole = Buffer.concat([Buffer.from([5, 0, 0, 9, 0, 0, 0]), Buffer.from("/procabc")]);
  assert.throws(() => readArchive(deflateSync(whole)), /ends within/);
});
