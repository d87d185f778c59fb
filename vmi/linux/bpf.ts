import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { userStruct } from "./cred.ts";
import type { Kernel } from "./kernel.ts";
import { isNull, plus, readCString, readNumber, readPointer, readU32, sameAddress } from "./read.ts";
import { walkIdr } from "./xarray.ts";

/** kernel/bpf/syscall.c: what BPF_PROG_GET_NEXT_ID and the like go through. Links have ids from 5.8 (a3b80e107894). */
const idrs = { program: symbol("prog_idr"), map: symbol("map_idr"), link: symbol("link_idr") };

/** include/linux/bpf.h */
export const bpfProg = struct("bpf_prog", {
  /** A bit field, the first of its word in every version. */
  jited: "jited",
  type: "type",
  len: "len",
  jited_len: "jited_len",
  tag: "tag",
  bpf_func: "bpf_func",
  aux: "aux",
});
export const bpfProgAux = struct("bpf_prog_aux", {
  id: "id",
  prog: "prog",
  name: "name",
  load_time: "load_time",
  user: "user",
  used_map_cnt: "used_map_cnt",
  used_maps: "used_maps",
  func_cnt: "func_cnt",
  func: "func",
  /** From 5.16 (aba64c7da983). */
  verified_insns: "?verified_insns",
  /** From 5.5 (f1b9509c2fb0), from 5.11 (22dc4a0f5ed1). */
  attach_func_name: "?attach_func_name",
  attach_btf: "?attach_btf",
});
/** kernel/bpf/btf.c; named from 5.11 (5329722057d4). */
const btf = struct("?btf", { name: "?name" });

export const bpfMap = struct("bpf_map", {
  id: "id",
  map_type: "map_type",
  key_size: "key_size",
  value_size: "value_size",
  max_entries: "max_entries",
  map_flags: "map_flags",
  name: "name",
  /** A bool from 5.2 (87df15de441b). */
  frozen: "?frozen",
});

export const bpfLink = struct("bpf_link", { id: "id", type: "type", prog: "prog" });
/** `btp` is a bpf_raw_event_map. */
const rawTracepointLink = struct("?bpf_raw_tp_link", { btp: "btp" });
const rawEventMap = struct("?bpf_raw_event_map", { tp: "tp" });
const tracepointName = struct("?tracepoint", { name: "name" });

/** More ids than this are not believed. */
const MAX_OBJECTS = 1 << 20;
/** BPF_OBJ_NAME_LEN */
const NAME_LENGTH = 16;
const TAG_LENGTH = 8;
/** Bytes of a struct bpf_insn. */
const INSTRUCTION = 8;
/** BPF_MAX_SUBPROGS, with one to spare for the exception callback. */
const MAX_FUNCTIONS = 257;
/** Maps in a program's instructions are at most 64 (MAX_USED_MAPS); others can be bound to it later. */
const MAX_MAPS = 1024;
const MAX_SYMBOL = 512;

export type BpfKind = keyof typeof idrs;

/**
 * Visits programs, maps or links by ascending id. Throws GuestError "unsupported-kernel" where the kernel knows no BPF.
 *
 * @returns false when not all could be read
 */
export function walkBpf(
  kernel: Kernel,
  kind: BpfKind,
  budget: Budget,
  visit: (id: number, at: Halves) => boolean,
): boolean {
  return walkIdr(kernel, kernel.place(idrs[kind]), MAX_OBJECTS, budget, visit);
}

/** What hangs on a program with this id; undefined when the program's memory is another's by now. */
export function programAux(kernel: Kernel, program: Halves, id: number): Halves | undefined {
  const layout = kernel.layout(bpfProgAux);
  const aux = readPointer(kernel.space, program, kernel.layout(bpfProg).aux);
  const back = aux && readPointer(kernel.space, aux, layout.prog);
  if (aux === undefined || back === undefined || !sameAddress(back, program)) return undefined;
  return readU32(kernel.space, aux, layout.id) === id ? aux : undefined;
}

/** The id of a program, read from the program. */
export function programId(kernel: Kernel, program: Halves): number | undefined {
  const aux = readPointer(kernel.space, program, kernel.layout(bpfProg).aux);
  return aux && readU32(kernel.space, aux, kernel.layout(bpfProgAux).id);
}

export function programType(kernel: Kernel, program: Halves): string | undefined {
  const type = readU32(kernel.space, program, kernel.layout(bpfProg).type);
  return type === undefined ? undefined : (PROGRAM_TYPES[type] ?? String(type));
}

/** The digest of its instructions, sixteen hexadecimal digits. */
export function programTag(kernel: Kernel, program: Halves): string | undefined {
  const bytes = new Uint8Array(TAG_LENGTH);
  const { hi, lo } = plus(program, kernel.layout(bpfProg).tag);
  return kernel.space.read(hi, lo, bytes) === TAG_LENGTH ? Buffer.from(bytes).toString("hex") : undefined;
}

export function programJited(kernel: Kernel, program: Halves): number | undefined {
  const word = readU32(kernel.space, program, kernel.layout(bpfProg).jited);
  return word === undefined ? undefined : word & 1;
}

/** Bytes of its instructions as the verifier left them. */
export function programSize(kernel: Kernel, program: Halves): number | undefined {
  const count = readU32(kernel.space, program, kernel.layout(bpfProg).len);
  return count === undefined ? undefined : count * INSTRUCTION;
}

/** Bytes of machine code, of all its functions together (bpf_prog_get_info_by_fd: jited_prog_len). */
export function programJitedSize(kernel: Kernel, program: Halves, aux: Halves, budget: Budget): number | undefined {
  const { space } = kernel;
  const { jited_len } = kernel.layout(bpfProg);
  const layout = kernel.layout(bpfProgAux);
  const functions = readU32(space, aux, layout.func_cnt);
  if (functions === 0) return readU32(space, program, jited_len);
  const array = readPointer(space, aux, layout.func);
  if (functions === undefined || functions > MAX_FUNCTIONS || array === undefined) return undefined;
  let size = 0;
  for (let i = 0; i < functions; i++) {
    budget.spend();
    const one = readPointer(space, array, i * 8);
    const length = one && readU32(space, one, jited_len);
    if (length === undefined) return undefined;
    size += length;
  }
  return size;
}

/** The user id, in the initial user namespace, of who loaded it. */
export function programOwner(kernel: Kernel, aux: Halves): number | undefined {
  const user = readPointer(kernel.space, aux, kernel.layout(bpfProgAux).user);
  return user && readU32(kernel.space, user, kernel.layout(userStruct).uid);
}

/** Ids of the maps that it uses, as its info has them. */
export function programMaps(kernel: Kernel, aux: Halves, budget: Budget): number[] | undefined {
  const { space } = kernel;
  const layout = kernel.layout(bpfProgAux);
  const { id } = kernel.layout(bpfMap);
  const count = readU32(space, aux, layout.used_map_cnt);
  if (count === undefined || count > MAX_MAPS || id < 0) return undefined;
  const array = count > 0 ? readPointer(space, aux, layout.used_maps) : undefined;
  const ids: number[] = [];
  for (let i = 0; i < count; i++) {
    budget.spend();
    const map = array && readPointer(space, array, i * 8);
    const mapId = map && readU32(space, map, id);
    if (mapId === undefined) return undefined;
    ids.push(mapId);
  }
  return ids;
}

/** The kernel function or tracepoint that a program of tracing is made for; "none" for others. */
export function programTarget(kernel: Kernel, aux: Halves): Uint8Array | "none" | undefined {
  const { attach_func_name } = kernel.layout(bpfProgAux);
  return textBehind(kernel, aux, attach_func_name);
}

/** `vmlinux`, or the module that has the function; "none" where there is none. */
export function programTargetObject(kernel: Kernel, aux: Halves): Uint8Array | "none" | undefined {
  const { attach_btf } = kernel.layout(bpfProgAux);
  const { name } = kernel.layout(btf);
  const at = attach_btf < 0 || name < 0 ? NULL : readPointer(kernel.space, aux, attach_btf);
  if (at === undefined || isNull(at)) return at && "none";
  return readCString(kernel.space, plus(at, name), 64);
}

/** The name that its maker gave it, such as in `bpf_prog` and `bpf_map`: often empty, and cut at 15 bytes. */
export function bpfName(kernel: Kernel, at: Halves, member: number): Uint8Array | undefined {
  return readCString(kernel.space, plus(at, member), NAME_LENGTH);
}

/** Nanoseconds of the clock that counts from boot on, suspended or not (CLOCK_BOOTTIME). */
export function programLoadTime(kernel: Kernel, aux: Halves): number | undefined {
  return readNumber(kernel.space, aux, kernel.layout(bpfProgAux).load_time);
}

export function mapType(kernel: Kernel, map: Halves): string | undefined {
  const type = readU32(kernel.space, map, kernel.layout(bpfMap).map_type);
  return type === undefined ? undefined : (MAP_TYPES[type] ?? String(type));
}

/** 1 when programs and processes may no longer change it from user space; undefined when unreadable. */
export function mapFrozen(kernel: Kernel, map: Halves): number | undefined {
  const word = readU32(kernel.space, map, kernel.layout(bpfMap).frozen);
  return word === undefined ? undefined : Number((word & 0xff) !== 0);
}

export function linkType(kernel: Kernel, link: Halves): string | undefined {
  const type = readU32(kernel.space, link, kernel.layout(bpfLink).type);
  return type === undefined ? undefined : (LINK_TYPES[type] ?? String(type));
}

/** The program of a link; "none" for a link of struct_ops. */
export function linkProgram(kernel: Kernel, link: Halves): Halves | "none" | undefined {
  const program = readPointer(kernel.space, link, kernel.layout(bpfLink).prog);
  return program && isNull(program) ? "none" : program;
}

/** What a link of a raw tracepoint or of tracing is attached to: the name of a tracepoint or function. */
export function linkTarget(kernel: Kernel, link: Halves, type: string | undefined): Uint8Array | "none" | undefined {
  const { space } = kernel;
  if (type === "raw_tracepoint") {
    const { btp } = kernel.layout(rawTracepointLink);
    const event = btp < 0 ? undefined : readPointer(space, link, btp);
    const tracepoint = event && readPointer(space, event, Math.max(0, kernel.layout(rawEventMap).tp));
    return tracepoint && textBehind(kernel, tracepoint, kernel.layout(tracepointName).name);
  }
  const program = type === "tracing" ? linkProgram(kernel, link) : "none";
  if (program === "none" || program === undefined) return program;
  const aux = readPointer(space, program, kernel.layout(bpfProg).aux);
  return aux && programTarget(kernel, aux);
}

const NULL: Halves = { hi: 0, lo: 0 };

function textBehind(kernel: Kernel, at: Halves, member: number): Uint8Array | "none" | undefined {
  const text = member < 0 ? NULL : readPointer(kernel.space, at, member);
  if (text === undefined) return undefined;
  return isNull(text) ? "none" : readCString(kernel.space, text, MAX_SYMBOL);
}

/** enum bpf_prog_type (include/uapi/linux/bpf.h), in bpftool's words. */
const PROGRAM_TYPES = [
  "unspec",
  "socket_filter",
  "kprobe",
  "sched_cls",
  "sched_act",
  "tracepoint",
  "xdp",
  "perf_event",
  "cgroup_skb",
  "cgroup_sock",
  "lwt_in",
  "lwt_out",
  "lwt_xmit",
  "sock_ops",
  "sk_skb",
  "cgroup_device",
  "sk_msg",
  "raw_tracepoint",
  "cgroup_sock_addr",
  "lwt_seg6local",
  "lirc_mode2",
  "sk_reuseport",
  "flow_dissector",
  "cgroup_sysctl",
  "raw_tracepoint_writable",
  "cgroup_sockopt",
  "tracing",
  "struct_ops",
  "ext",
  "lsm",
  "sk_lookup",
  "syscall",
  "netfilter",
];

/** enum bpf_map_type */
const MAP_TYPES = [
  "unspec",
  "hash",
  "array",
  "prog_array",
  "perf_event_array",
  "percpu_hash",
  "percpu_array",
  "stack_trace",
  "cgroup_array",
  "lru_hash",
  "lru_percpu_hash",
  "lpm_trie",
  "array_of_maps",
  "hash_of_maps",
  "devmap",
  "sockmap",
  "cpumap",
  "xskmap",
  "sockhash",
  "cgroup_storage",
  "reuseport_sockarray",
  "percpu_cgroup_storage",
  "queue",
  "stack",
  "sk_storage",
  "devmap_hash",
  "struct_ops",
  "ringbuf",
  "inode_storage",
  "task_storage",
  "bloom_filter",
  "user_ringbuf",
  "cgrp_storage",
  "arena",
  "insn_array",
];

/** enum bpf_link_type */
const LINK_TYPES = [
  "unspec",
  "raw_tracepoint",
  "tracing",
  "cgroup",
  "iter",
  "netns",
  "xdp",
  "perf_event",
  "kprobe_multi",
  "struct_ops",
  "netfilter",
  "tcx",
  "uprobe_multi",
  "netkit",
  "sockmap",
];
