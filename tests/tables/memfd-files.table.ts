// memfd_files against /proc/PID/fd, /proc/PID/maps and /proc/PID/exe, and the seals as fcntl(2) tells them.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import { FOLDER_OF } from "./by-process.ts";
import type { Comparison } from "./comparison.ts";

const SCRIPT = `${FOLDER_OF}
import fcntl
names = ['seal', 'shrink', 'grow', 'write', 'future_write', 'exec']
def show(pid, held, fd, path, link):
    s = os.stat(path)
    handle = os.open(path, os.O_RDONLY)
    seals = fcntl.fcntl(handle, 1034)
    os.close(handle)
    print(pid, held, fd, link[7:-10], s.st_ino, s.st_size, s.st_blocks // 8, ','.join(n for i, n in enumerate(names) if seals >> i & 1), sep='\\t')
for pid in sorted((name for name in os.listdir('/proc') if name.isdigit()), key=int):
    if int(pid) == os.getpid(): continue
    try:
        folder = folder_of(pid)
        for fd in sorted(os.listdir(folder + '/fd'), key=int):
            link = os.readlink(folder + '/fd/' + fd)
            if link.startswith('/memfd:'): show(pid, 'open', fd, folder + '/fd/' + fd, link)
        link = os.readlink(folder + '/exe')
        if link.startswith('/memfd:'): show(pid, 'executable', '', folder + '/exe', link)
        seen = set()
        for line in open(folder + '/maps'):
            if '/memfd:' not in line: continue
            words = line.split()
            if words[4] in seen: continue
            seen.add(words[4])
            show(pid, 'mapped', '', '/proc/%s/map_files/%s' % (pid, '-'.join(part.lstrip('0') or '0' for part in words[0].split('-'))), line.split(None, 5)[5].strip())
    except FileNotFoundError: pass
`;

export const comparison: Comparison = {
  table: "memfd_files",
  async compare(subject, guest) {
    const expected = (await subject.lab.exec(`python3 -I -S -c "${SCRIPT}"`)).trimEnd().split("\n");
    const rows = read(guest, "memfd_files");
    assert.deepEqual(
      rows.map(({ pid, held, fd, name, inode, size, cached_pages, seals }) =>
        [pid, held, fd ?? "", name, inode, size, cached_pages, seals].join("\t"),
      ),
      expected,
    );
    assert.deepEqual([...new Set(rows.map(({ held }) => held))].toSorted(), ["executable", "mapped", "open"]);
    assert.ok(rows.some(({ name }) => name === "headless"));
    assert.ok(rows.some(({ name, seals }) => name === "sealed" && seals === "write"));
    assert.ok(
      rows.some(({ name, cached_pages, seals }) => name === "huge" && cached_pages === 1024 && seals === "shrink"),
    );
    return `${rows.length} rows`;
  },
};
