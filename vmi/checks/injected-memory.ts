import { formatHalves, type Halves, numberOf } from "../bytes/address.ts";
import { consistently } from "../linux/consistent.ts";
import { inodeOf } from "../linux/file.ts";
import { Memo } from "../linux/memo.ts";
import { processMember } from "../linux/process-member.ts";
import { readNumber, readPointer, sameAddress } from "../linux/read.ts";
import { taskStruct } from "../linux/task-struct.ts";
import { livePid } from "../linux/tasks.ts";
import { uprobe, walkUprobes } from "../linux/uprobe.ts";
import { boundsOf, describeVma, isMapped, VM, type Vma } from "../linux/vma.ts";
import { type CheckContext, defineCheck, type Severity } from "./check.ts";
import { type CodeFile, memorySeen, type SeenMemory } from "./memory-seen.ts";
import { type FoundCode, firstCode, modifiedCode } from "./own-code.ts";
import { baseName, identify, isScratch } from "./programs.ts";

/** Programs that make code while they run, and libraries by which others do. */
const COMPILERS =
  /^(node|nodejs|deno|bun|java|javac|python[\d.]*|pypy[\d.]*|ruby[\d.]*|php[\d.]*|php-fpm[\d.]*|luajit.*|lua[\d.]*|mono.*|dotnet|pwsh|qemu-.*|beam\.smp|firefox.*|chrom(e|ium).*|electron|gjs.*|gnome-shell|polkitd|julia|valgrind.*|wine.*)$/;
const COMPILING =
  /^lib(jvm|v8|node|mozjs|javascriptcoregtk|luajit|LLVM|coreclr|clrjit|mono|ruby|python|pcre|ffi|gccjit|orc|tcc|erlang|julia|wasmtime|wasmer)/;

export const injectedMemory = defineCheck({
  name: "injected-memory",
  severity: "high",
  cost: "walk",
  compares:
    "What each process may execute with files: executable memory that is of no file and holds something, mappings of files that " +
    "were never in a directory, and pages of programs and libraries that the process has as its own copy and that differ " +
    "from the file's (in the page cache). So injected code, unpacked programs and hooks within libraries show.",
  misses:
    "Code in memory that is not marked executable while it is looked at, or is paged out; pages made executable in the page " +
    "tables alone; a changed page of which the file's own is no longer in memory. Programs that compile while they run " +
    "(Java, JavaScript, .NET, PCRE, libffi) have such memory: it is reported as medium where the program or a library of " +
    "it is known for that. Breakpoints of debuggers are low, those of uprobes are left out. Old programs with text relocations are " +
    "reported as changed.",
  confirm:
    "SELECT * FROM process_memory_map WHERE pid = … AND permissions LIKE '__x%'. The bytes are read with cloudvmi's memory " +
    "commands at the address that is told; in the guest, with gdb -p PID. Compare a changed library with the package's.",
  reads: [
    "init_task",
    "mm_struct, maple_node (from 6.1: 524e00b36e8c; before, vm_area_struct.vm_next)",
    "vm_area_struct.vm_flags, vm_file and anon_vma",
    "page.mapping, address_space.i_pages",
    "uprobes_tree",
    "the processes' page tables and memory",
  ],
  look: (context) => {
    const specials: Specials = new Memo(context.kernel);
    for (const seen of context.shared(memorySeen)) {
      if (seen.own.length > 0) examine(context, seen, specials);
      for (const file of seen.files) if (file.rootless && file.path !== seen.path) reportNameless(context, seen, file);
    }
  },
});

/** Names of the kernel's own mappings: every process has one. */
type Specials = Memo<Uint8Array | undefined>;

/** What was found of one kind in one process. */
interface Kind {
  readonly what: string;
  readonly expected: string;
  readonly severity: Severity;
  readonly areas: Vma[];
  readonly notes: string[];
  readonly code: FoundCode;
}

function examine(context: CheckContext, seen: SeenMemory, specials: Specials): void {
  const { kernel, budget } = context;
  const found = consistently(kernel, budget, () => {
    const kinds = new Map<string, Kind>();
    const mm = processMember(kernel, seen.task, kernel.layout(taskStruct).mm, budget);
    // Another process's by now, or the same one's after execve().
    if (livePid(kernel, seen.task) !== seen.pid || mm === undefined || !sameAddress(mm, seen.mm)) return kinds;
    for (const area of seen.own) {
      if (!isMapped(kernel, seen.mm, area, budget)) continue;
      const kind =
        area.file === undefined ? ownMemory(context, seen, area, specials) : changedFile(context, seen, area);
      if (kind === undefined) continue;
      const known = kinds.get(kind.what);
      if (known === undefined) kinds.set(kind.what, kind);
      else {
        known.areas.push(area);
        known.notes.push(...kind.notes);
      }
    }
    return kinds;
  });
  if (found === undefined) context.incomplete(`the memory of process ${seen.pid} kept changing`);
  for (const kind of found?.value.values() ?? []) report(context, seen, kind);
}

function ownMemory(
  { kernel, budget }: CheckContext,
  seen: SeenMemory,
  area: Vma,
  specials: Specials,
): Kind | undefined {
  const { kind } = describeVma(kernel, boundsOf(kernel, seen.mm), area, specials);
  if (kind === "special") return undefined;
  const code = firstCode(kernel, seen.mm, area, budget);
  if (code === undefined) return undefined;
  const compiles = [seen.path, ...seen.files.map(({ path }) => path)].some(isCompiler);
  const place = kind === "heap" ? "its heap" : kind === "stack" ? "its stack" : "memory that is of no file";
  return {
    what: `may execute ${place}${area.flags & VM.WRITE ? ", which it may also write" : ""}`,
    expected: "code that is mapped from files, and no memory that may be written and executed",
    // An executable stack comes with old programs; everything else in them is executable then too.
    severity: kind === "stack" ? "low" : compiles ? "medium" : "high",
    areas: [area],
    notes: compiles ? ["it is a program that compiles while it runs, or has a library that does"] : [],
    code,
  };
}

function changedFile(context: CheckContext, seen: SeenMemory, area: Vma): Kind | undefined {
  const { kernel, budget } = context;
  const changed = modifiedCode(kernel, seen.mm, area, budget);
  if (changed === undefined) return undefined;
  const file = seen.files.find(({ area: of }) => of.file && area.file && sameAddress(of.file, area.file));
  const name = file?.path ?? "a file";
  const { breakpoints, pages, bytes } = changed;
  // Told by the tables of probes, and not once for every process that has the file mapped.
  if (breakpoints !== undefined && areProbes(context, area, breakpoints)) return undefined;
  return {
    what: breakpoints ? `has breakpoints in its code of ${name}` : `has code of ${name} that differs from the file's`,
    expected: "the same bytes as in the file",
    severity: breakpoints ? "low" : area.flags & VM.WRITE ? "medium" : "high",
    areas: [area],
    notes: [`${bytes} bytes of ${pages} pages differ`],
    code: changed.first,
  };
}

/** True when every breakpoint is where the kernel has a uprobe. */
function areProbes({ kernel, budget }: CheckContext, { file }: Vma, breakpoints: readonly number[]): boolean {
  const inode = file && inodeOf(kernel, file);
  const layout = kernel.layout(uprobe);
  const probes = walkUprobes(kernel, budget);
  const offsets = new Set<number | undefined>();
  for (let i = 0; i < probes.count; i++) {
    const at = { hi: probes.hi[i]!, lo: probes.lo[i]! };
    const of = readPointer(kernel.space, at, layout.inode);
    if (inode !== undefined && of !== undefined && sameAddress(of, inode))
      offsets.add(readNumber(kernel.space, at, layout.offset));
  }
  return breakpoints.every((offset) => offsets.has(offset));
}

/** Areas of one kind that are named. */
const MAX_AREAS = 4;

function report(context: CheckContext, seen: SeenMemory, { what, expected, severity, areas, notes, code }: Kind): void {
  const { pid, name, path } = seen;
  const size = areas.reduce((sum, { start, end }) => sum + numberAt(end) - numberAt(start), 0);
  const named = areas.slice(0, MAX_AREAS).map(placeOf).join(", ");
  const more = areas.length > MAX_AREAS ? ` and ${areas.length - MAX_AREAS} more` : "";
  context.report({
    what: `process ${pid} (${name}) ${what}`,
    where: `${placeOf(areas[0]!)} of process ${pid} (${name})`,
    evidence: [`${named}${more}, ${size / 1024} KiB`, path ?? "executable unknown", ...new Set(notes)].join("; "),
    expected,
    identity: `${identify({ name, path })} ${what}`,
    severity,
    pid,
    code,
  });
}

function reportNameless(context: CheckContext, seen: SeenMemory, { path, area }: CodeFile): void {
  const { pid, name } = seen;
  const compiles = [seen.path, ...seen.files.map((file) => file.path)].some(isCompiler);
  context.report({
    what: `process ${pid} (${name}) may execute ${path}, which was never in a directory`,
    where: `${placeOf(area)} of process ${pid} (${name})`,
    evidence: `mapped from ${path}; executable ${seen.path ?? "unknown"}`,
    expected: "code that is mapped from files in directories",
    identity: `${identify(seen)} executes ${path}`,
    severity: compiles ? "medium" : "high",
    pid,
  });
}

function isCompiler(path: string | undefined): boolean {
  if (path === undefined || isScratch(path)) return false;
  const name = baseName(path);
  return COMPILERS.test(name) || COMPILING.test(name);
}

/** `7f12a000-7f12c000 rwxp`, as in /proc/PID/maps. */
function placeOf({ start, end, flags }: Vma): string {
  const letter = (bit: number, shown: string) => (flags & bit ? shown : "-");
  const rights = `${letter(VM.READ, "r")}${letter(VM.WRITE, "w")}${letter(VM.EXEC, "x")}${flags & VM.MAYSHARE ? "s" : "p"}`;
  return `${hex(start)}-${hex(end)} ${rights}`;
}

const numberAt = ({ hi, lo }: Halves) => numberOf(hi, lo);
const hex = ({ hi, lo }: Halves) => formatHalves(hi, lo).replace(/^0x0*/, "");
