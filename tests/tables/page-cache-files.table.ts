// page_cache_files against stat(2) of every file of the guest's file systems in memory, of which all that is written is
// cached, and mincore(2) for those of a file system on a block device, and for the device.
import assert from "node:assert/strict";
import { exactly, read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

/** Prints how many pages of a file are cached. They are not mapped by that. */
const MINCORE = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
def cached(path):
    fd = os.open(path, os.O_RDONLY)
    size = os.lseek(fd, 0, os.SEEK_END)
    area = libc.mmap(None, size, 1, 1, fd, 0)
    pages = ctypes.create_string_buffer((size + 4095) // 4096)
    if area == ctypes.c_void_p(-1).value or libc.mincore(area, size, pages): raise OSError(ctypes.get_errno(), path)
    os.close(fd)
    return sum(byte & 1 for byte in pages.raw)
`;

/** Without the bind mount, whose files have their names elsewhere. tmpfs counts the blocks that a file takes; ramfs does not, and its files have no holes here. */
const SCRIPT = `${MINCORE}
import stat
for top in ('/', '/tmp', '/mnt/tmpfs', '/mnt/disk'):
    device = os.stat(top).st_dev
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device and name != 'bound']
        for name in names:
            path = os.path.join(folder, name)
            s = os.lstat(path)
            if not stat.S_ISREG(s.st_mode) or s.st_dev != device or s.st_size == 0: continue
            if top == '/mnt/disk': pages = cached(path)
            else: pages = (s.st_size + 4095) // 4096 if top == '/' else s.st_blocks // 8
            if pages: print(s.st_ino, '%d:%d' % (os.major(s.st_dev), os.minor(s.st_dev)), s.st_size, pages, s.st_nlink, s.st_uid, path, sep='\\t')
print(cached('/dev/' + os.path.basename(os.readlink('/sys/dev/block/%d:%d' % (os.major(s.st_dev), os.minor(s.st_dev))))))
`;

/** Inode of the block device 7:0, in the kernel's own file system of devices: its number (MINORBITS of 20). */
const LOOP0 = 7 << 20;

export const comparison: Comparison = {
  table: "page_cache_files",
  async compare(subject, guest) {
    const output = await subject.lab.exec(`python3 -I -S -c "${SCRIPT}"`);
    const rows = read(guest, "page_cache_files");
    const byKey = new Map(rows.map((row) => [`${row.device} ${row.inode}`, row]));
    let compared = 0;
    const lines = output.trimEnd().split("\n");
    const onDevice = Number(lines.pop());
    for (const line of lines) {
      const [inode, device, size, pages, links, uid, path] = line.split("\t") as string[];
      const row = byKey.get(`${device} ${inode}`);
      assert.ok(row, `${path} is missing`);
      const { path: found, size: bytes, cached_pages, links: names, uid: owner, kind } = row;
      const expected = { size: exactly(size!), cached_pages: Number(pages), names: Number(links), owner: Number(uid) };
      assert.deepEqual({ size: bytes, cached_pages, names, owner }, expected, line);
      assert.equal(kind, "regular");
      if (links === "1") assert.equal(found, path);
      compared++;
    }
    assert.ok(compared > 200, `${compared} files`);
    const onDisk = rows.filter(({ path }) => String(path).startsWith("/mnt/disk/"));
    assert.deepEqual(onDisk.map(({ path, cached_pages }) => [path, cached_pages]).toSorted(), [
      ["/mnt/disk/partial", 4],
      ["/mnt/disk/sparse", 4],
    ]);
    // mincore(2) leaves out what is in memory and not read yet.
    const [device, ...more] = rows.filter(({ kind, inode }) => kind === "block" && inode === LOOP0);
    assert.deepEqual([device?.size, more], [8 << 20, []]);
    assert.ok(onDevice > 0 && (device?.cached_pages as number) >= onDevice, `${device?.cached_pages}, ${onDevice}`);
    const deleted = rows.filter((row) => row.links === 0);
    assert.ok(deleted.some(({ path, size }) => path === "/tmp/deleted-but-open" && size === 11_000));
    return `${compared} files`;
  },
};
