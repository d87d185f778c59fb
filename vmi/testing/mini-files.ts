import { type MiniKernel, Thing } from "./mini-kernel.ts";
import { ARGUMENTS, addProcess, type Process } from "./mini-objects.ts";
import { type Mount, makeDentry, makeFile, makeMount, makePath } from "./mini-vfs.ts";
import { naiveWalk } from "./page-table-writer.ts";

/** What a made-up guest has of files: file systems with inodes and cached pages, a memfd, mounts, and areas of memory. */
export interface MiniFiles {
  /** Of a root and a leaf, each of a type of its own. */
  readonly mapleRoot: bigint;
  readonly mapleLeaf: bigint;
  readonly pages: Thing;
  readonly xaNode: Thing;
  readonly inode: Thing;
  readonly superBlock: Thing;
  /** A struct file. */
  readonly memfd: Thing;
}

const S_IFREG = 0o100_644;
const HEAP = 0x5555_0000_0000n;
const PROGRAM = 0x40_0000n;
const LIBRARY = 0x7f00_0000_0000n;
const READ = 0x1n;
const EXEC = 0x4n;
const WRITE = 0x2n;
/** `struct page`s; the first page of them is there. */
const VMEMMAP = 0xffff_ea00_0000_0000n;
/** Files that nobody asks for: inodes from the first on. */
const FIRST_LOG = 100;
const LOGS = 16;
/** ERR_PTR(-EINVAL) (fs/mount.h) */
const MNT_NS_INTERNAL = -22n;
const UP_TO_DATE = 1n << 3n;
const LEAF_64 = 1n;
const ARANGE_64 = 3n;

export function addFiles(kernel: MiniKernel, root: Mount, namespace: Thing, shell: Process): MiniFiles {
  const superBlocks = kernel.image("super_blocks", 16, "D");
  kernel.emptyList(superBlocks);
  const disk = makeSuperBlock(kernel, superBlocks, "ext4", (8 << 20) | 1);
  const memory = makeSuperBlock(kernel, superBlocks, "tmpfs", 21);
  joinMount(kernel, root, disk, namespace, { device: "/dev/vda1", id: 1 });
  const shared = makeMount(kernel, { mount: root, point: makePath(kernel, root, "/dev/shm") });
  joinMount(kernel, shared, memory, namespace, { device: "shm", id: 2 });

  const [pages, xaNode] = cachePages(kernel, [Buffer.from("one\n".repeat(1024)), undefined, Buffer.from("three\n")]);
  const inode = makeInode(kernel, disk, { number: 13, size: 2 * 4096 + 6, mapping: pages });
  const dentry = makePath(kernel, root, "/etc/motd");
  name(kernel, dentry, inode);
  const program = makeFile(kernel, root, makePath(kernel, root, "/usr/bin/a-shell")).set("f_inode", inode.va);
  const library = makeFile(kernel, root, dentry).set("f_inode", inode.va);

  for (let number = FIRST_LOG; number < FIRST_LOG + LOGS; number++) {
    const [logPages] = cachePages(kernel, [Buffer.from("logged\n")]);
    const log = makePath(kernel, root, `/var/log/${number}.log`);
    name(kernel, log, makeInode(kernel, disk, { number, size: 7, mapping: logPages }));
  }

  // A memfd is on a file system of the kernel's own, whose mount is in no namespace.
  const internal = makeSuperBlock(kernel, superBlocks, "tmpfs", 22);
  const outside = makeMount(kernel);
  outside.thing.setAll({ "mnt.mnt_sb": internal.va, mnt_ns: MNT_NS_INTERNAL });
  kernel.listAdd(internal.at("s_mounts"), outside.thing.at("mnt_instance"));
  const [memfdPages] = cachePages(kernel, [Buffer.from("payload")]);
  const memfdInode = makeInode(kernel, internal, { number: 14, size: 7, mapping: memfdPages });
  const memfdDentry = makeDentry(kernel, "memfd:payload").set("d_hash.pprev", 0);
  name(kernel, memfdDentry, memfdInode);
  const memfd = makeFile(kernel, outside, memfdDentry).set("f_inode", memfdInode.va);

  const tree = addAreas(kernel, shell, [
    { start: PROGRAM, end: PROGRAM + 0x2000n, flags: READ | EXEC, file: program },
    { start: HEAP, end: HEAP + 0x1000n, flags: READ | WRITE },
    { start: LIBRARY, end: LIBRARY + 0x1000n, flags: READ | EXEC, file: library },
    { start: ARGUMENTS & ~0xfffn, end: (ARGUMENTS & ~0xfffn) + 0x2000n, flags: READ | WRITE },
  ]);
  shell.mm!.setAll({ start_brk: HEAP, brk: HEAP + 0x1000n, start_stack: ARGUMENTS });
  addHistory(kernel, shell);
  openFile(kernel, shell, library.set("f_flags", 0o100_000));
  return { ...tree, pages, xaNode, inode, superBlock: disk, memfd };
}

/** A process whose program is in no directory, and mapped as it is. */
export function addHidden(kernel: MiniKernel, { memfd }: MiniFiles, pid: number): void {
  const process = addProcess(kernel, { pid, comm: "4", memory: { exe: memfd, args: "4\0" } });
  addAreas(kernel, process, [{ start: PROGRAM, end: PROGRAM + 0x1000n, flags: READ | EXEC, file: memfd }]);
}

function makeSuperBlock(kernel: MiniKernel, list: bigint, type: string, device: number): Thing {
  const block = kernel.make("super_block");
  block.setAll({ s_dev: device, s_type: kernel.make("file_system_type").set("name", kernel.string(type)).va });
  for (const member of ["s_mounts", "s_inodes"]) kernel.emptyList(block.at(member));
  kernel.listAdd(list, block.at("s_list"));
  return block;
}

function makeInode(
  kernel: MiniKernel,
  block: Thing,
  { number, size, mapping }: { number: number; size: number; mapping: Thing },
): Thing {
  // Within the inode of tmpfs, also where it is another's.
  const inode = new Thing(kernel, kernel.types.of.inode!, kernel.make("shmem_inode_info").at("vfs_inode"));
  inode.setAll({ i_mode: S_IFREG, i_uid: 1000, i_sb: block.va, i_ino: number, i_nlink: 1, i_size: size });
  inode.set("i_mapping", mapping.va);
  mapping.set("host", inode.va);
  kernel.listAdd(block.at("s_inodes"), inode.at("i_sb_list"));
  return inode;
}

function name(kernel: MiniKernel, dentry: Thing, inode: Thing): void {
  dentry.setAll({ d_inode: inode.va, "d_u.d_alias.pprev": inode.at("i_dentry") });
  kernel.writeInteger(inode.at("i_dentry"), dentry.at("d_u.d_alias"), 8);
}

/** An address_space with the pages of a file, of which some are not in memory. */
function cachePages(kernel: MiniKernel, contents: readonly (Buffer | undefined)[]): readonly [Thing, Thing] {
  const node = kernel.make("xa_node");
  if (!kernel.symbols.some((symbol) => symbol.name === "vmemmap_base")) {
    kernel.writeInteger(kernel.image("vmemmap_base", 8), VMEMMAP, 8);
  }
  const { size, members } = kernel.types.of.page!;
  const mapping = kernel.make("address_space");
  contents.forEach((content, index) => {
    if (content === undefined) return;
    const gpa = kernel.ram.take();
    kernel.ram.bytes.set(content, gpa);
    const page = VMEMMAP + BigInt((gpa / 4096) * size);
    const within = page & ~0xfffn;
    if (naiveWalk(kernel.tables, within) === undefined) kernel.tables.map(within, kernel.ram.take());
    kernel.writeInteger(page, UP_TO_DATE, 8);
    kernel.writeInteger(page + BigInt(members.get("mapping")!.offset), mapping.va, 8);
    kernel.writeInteger(node.at("slots") + BigInt(index * 8), page, 8);
  });
  mapping.setAll({
    "i_pages.xa_head": node.va | 2n,
    nrpages: contents.filter((content) => content !== undefined).length,
  });
  return [mapping, node];
}

function joinMount(
  kernel: MiniKernel,
  mount: Mount,
  block: Thing,
  namespace: Thing,
  { device, id }: { device: string; id: number },
): void {
  const { thing } = mount;
  thing.setAll({
    "mnt.mnt_sb": block.va,
    mnt_devname: kernel.string(device),
    mnt_id: id,
    mnt_ns: namespace.va,
    "mnt.mnt_flags": 0x20,
  });
  kernel.listAdd(block.at("s_mounts"), thing.at("mnt_instance"));
  if (kernel.options.flavour === "6.1") {
    if (kernel.readPointer(namespace.at("list")) === 0n) kernel.emptyList(namespace.at("list"));
    kernel.listAdd(namespace.at("list"), thing.at("mnt_list"));
    return;
  }
  // To the right of those before it.
  let [link, above] = [namespace.at("mounts"), 0n];
  for (let next = kernel.readPointer(link); next !== 0n; next = kernel.readPointer(link))
    [link, above] = [next + 8n, next];
  kernel.writeInteger(link, thing.at("mnt_node"), 8);
  kernel.writeInteger(thing.at("mnt_node"), above | 1n, 8);
}

interface Area {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
  readonly file?: Thing;
}

/** The areas of a process in a maple tree of two levels: a root, and a leaf with the first half and one with the others. */
function addAreas(
  kernel: MiniKernel,
  process: Process,
  areas: readonly Area[],
): Pick<MiniFiles, "mapleRoot" | "mapleLeaf"> {
  const mm = process.mm!;
  const entries = areas.map(({ start, end, flags, file }) => {
    const area = kernel.make("vm_area_struct").setAll({ vm_start: start, vm_end: end, vm_mm: mm.va, vm_flags: flags });
    return { start, end, at: area.set("vm_file", file?.va ?? 0n).va };
  });
  const half = Math.ceil(entries.length / 2);
  const leaves = [entries.slice(0, half), entries.slice(half)].map((part) => {
    const node = mapleNode(kernel, "maple_range_64");
    const slots = part.flatMap(({ start, end, at }) => [
      { value: 0n, last: start - 1n },
      { value: at, last: end - 1n },
    ]);
    fill(kernel, node, [...slots, { value: 0n, last: 0n }]);
    return { value: node.va | (LEAF_64 << 3n), last: part.at(-1)?.end ?? 0n };
  });
  const root = mapleNode(kernel, "maple_arange_64");
  fill(kernel, root, leaves);
  mm.set("mm_mt.ma_root", root.va | (ARANGE_64 << 3n) | 2n);
  return { mapleRoot: root.va, mapleLeaf: leaves[0]!.value & ~0xffn };
}

function fill(kernel: MiniKernel, node: Thing, slots: readonly { value: bigint; last: bigint }[]): void {
  slots.forEach(({ value, last }, i) => {
    kernel.writeInteger(node.at("slot") + BigInt(i * 8), value, 8);
    kernel.writeInteger(node.at("pivot") + BigInt(i * 8), i === slots.length - 1 ? 0n : last, 8);
  });
}

function mapleNode(kernel: MiniKernel, type: string): Thing {
  const at = kernel.allocate(512);
  return new Thing(kernel, kernel.types.of[type]!, (at + 0xffn) & ~0xffn);
}

/** Descriptor 20 of a process that has others. */
function openFile(kernel: MiniKernel, { task }: Process, file: Thing): void {
  const { files_struct: files, fdtable } = kernel.types.of;
  const at = new Thing(kernel, files!, kernel.readPointer(task.at("files")));
  const table = new Thing(kernel, fdtable!, kernel.readPointer(at.at("fdt")));
  const bits = kernel.readPointer(table.at("open_fds"));
  kernel.writeInteger(bits, kernel.readPointer(bits) | (1n << 20n), 8);
  kernel.writeInteger(kernel.readPointer(table.at("fd")) + 20n * 8n, file.va, 8);
}

/** A line of history on the shell's heap, with a list that points to it. */
function addHistory(kernel: MiniKernel, { tables }: Process): void {
  const gpa = kernel.ram.take();
  tables!.map(HEAP, gpa, { user: true });
  const heap = Buffer.alloc(4096);
  heap.write("ls -l\0", 0x100);
  heap.write("#1700000000\0", 0x140);
  [HEAP + 0x100n, HEAP + 0x140n].forEach((value, i) => {
    heap.writeBigUInt64LE(value, 0x180 + i * 8);
  });
  heap.writeBigUInt64LE(HEAP + 0x180n, 0x1c0);
  kernel.ram.bytes.set(heap, gpa);
}
