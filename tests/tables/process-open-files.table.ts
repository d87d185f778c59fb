// process_open_files against /proc/PID/fd and fdinfo.
import assert from "node:assert/strict";
import { exactly, type Row, read } from "../engine/support.ts";
import { FOLDER_OF } from "./by-process.ts";

import type { Comparison } from "./comparison.ts";

/** For each descriptor of each process: link, kind and size by stat of what is open, and fdinfo. */
const SCRIPT = `${FOLDER_OF}
kinds = {0o01: 'fifo', 0o02: 'character', 0o04: 'directory', 0o06: 'block', 0o10: 'regular', 0o12: 'link', 0o14: 'socket', 0: 'anonymous'}
for pid in [name for name in os.listdir('/proc') if name.isdigit()]:
    if int(pid) == os.getpid(): continue
    try:
        folder = folder_of(pid)
        names = os.listdir(folder + '/fd')
    except OSError: continue
    for fd in names:
        path = folder + '/fd/' + fd
        try:
            link = os.readlink(path)
            s = os.stat(path)
            info = dict(line.split(':', 1) for line in open(folder + '/fdinfo/' + fd).read().splitlines() if ':' in line)
        except OSError: continue
        print(pid, fd, kinds[s.st_mode >> 12], s.st_ino, '%d:%d' % (os.major(s.st_dev), os.minor(s.st_dev)), s.st_size, int(info['pos']), int(info['flags'], 8), link, sep='\\t')
`;
type Line = [
  pid: string,
  fd: string,
  kind: string,
  inode: string,
  device: string,
  size: string,
  position: string,
  flags: string,
];
const O_CLOEXEC = 0o2000000;
const deletedMark = " (deleted)";

export const comparison: Comparison = {
  table: "process_open_files",
  async compare(subject, guest) {
    const truth = async () => {
      const output = await subject.lab.exec(`python3 -I -S -c "${SCRIPT.replaceAll("$", "\\$")}"`);
      const lines = output.trimEnd().split("\n");
      return new Map(lines.map((line) => [line.split("\t").slice(0, 2).join(":"), line] as const));
    };
    const before = await truth();
    const rows = read(guest, "process_open_files");
    const after = await truth();
    const byKey = new Map(rows.map((row) => [`${row.pid}:${row.fd}`, row]));
    assert.equal(byKey.size, rows.length, "a descriptor has two rows");
    // Only the lab's control program opens anything meanwhile, and what it opens is closed when it asks.
    for (const [key, { path }] of byKey) assert.ok(before.has(key) || after.has(key), `${key}, ${path}, is not open`);
    let compared = 0;
    const kinds = new Set<string>();
    for (const [key, text] of before) {
      // What moved meanwhile, such as a position in a log, can't be held to either.
      if (after.get(key) !== text) continue;
      const [pid, fd, kind, inode, device, size, position, flags] = text.split("\t", 8) as Line;
      const link = text.split("\t").slice(8).join("\t");
      const row = byKey.get(key);
      assert.ok(row, `descriptor ${key}, ${link}, is missing`);
      // A name may end so itself.
      const deleted = row.deleted === 1 && link.endsWith(deletedMark);
      const expected = {
        pid: Number(pid),
        fd: Number(fd),
        path: deleted ? link.slice(0, -deletedMark.length) : link,
        kind,
        inode: Number(inode),
        device,
        position: exactly(position),
        flags: Number(flags) & ~O_CLOEXEC,
      };
      const { size: shown, mode, deleted: removed, file: _, ...rest } = row;
      assert.deepEqual({ ...rest, flags: (rest.flags as number) & ~O_CLOEXEC }, expected, link);
      if (kind === "regular") assert.equal(shown, exactly(size), link);
      assert.equal(mode, Number(flags) & 0o10000000 ? null : ["r", "w", "rw"][Number(flags) & 3], link);
      if (kind === "regular" && link.startsWith("/"))
        assert.equal(removed, Number(link.endsWith(deletedMark) && !link.includes("odd")), link);
      kinds.add(kind);
      compared++;
    }
    requireKinds(rows, kinds);
    assert.ok(compared > 60, `${compared} descriptors`);
    return `${compared} rows`;
  },
};

function requireKinds(rows: readonly Row[], kinds: ReadonlySet<string>): void {
  for (const kind of ["anonymous", "character", "directory", "fifo", "regular", "socket"])
    assert.ok(kinds.has(kind), kind);
  const paths = rows.map(({ path }) => String(path));
  for (const wanted of [
    /^anon_inode:\[eventpoll\]$/,
    /^anon_inode:\[eventfd\]$/,
    /^anon_inode:\[timerfd\]$/,
    /^anon_inode:inotify$/,
    /^anon_inode:\[pidfd\]$/,
    /^pipe:\[\d+\]$/,
    /^socket:\[\d+\]$/,
    /^net:\[\d+\]$/,
    /^\/memfd:sealed$/,
    /^\/mnt\/bound\/file$/,
    /^\/tmp\/deleted-but-open$/,
    // Of a process whose first thread has ended.
    /^\/tmp\/headless-open$/,
    /^\/mnt\/tmpfs\/vast$/,
  ])
    assert.ok(
      paths.some((path) => wanted.test(path)),
      String(wanted),
    );
}
