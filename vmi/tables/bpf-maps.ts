import { bpfMap, bpfName, mapFrozen, mapType } from "../linux/bpf.ts";
import { readU32 } from "../linux/read.ts";
import { BpfHolders, eachBpf, pushWord } from "./bpf-cells.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a map: what BPF_MAP_GET_NEXT_ID finds and BPF_OBJ_GET_INFO_BY_FD says. */
export const bpfMaps = defineTable({
  name: "bpf_maps",
  description: "BPF maps in the kernel: what programs keep their data in",
  columns: {
    id: integer("Id of the map", { key: true }),
    type: text("hash, array, ringbuf, …: bpftool's words; a number for one newer than they"),
    name: text("Name that its maker gave it, at most 15 bytes; may be empty"),
    key_size: integer("Bytes of a key"),
    value_size: integer("Bytes of a value"),
    max_entries: integer("Entries that it can hold"),
    flags: integer("BPF_F_… flags of its making"),
    frozen: integer("1 when system calls may no longer change it"),
    pids: text(
      "Processes that have a descriptor of it, separated by commas; absent when none has: a program uses it, or it is pinned",
    ),
    map: text("Address of the struct bpf_map"),
  },
  cost: "walk",
  atOnce: true,
  reads: ["map_idr", "bpf_map (frozen from 5.2: 87df15de441b)", "file (for pids)"],
  examples: ["SELECT id, type, name, key_size * max_entries AS keys FROM bpf_maps WHERE type = 'hash'"],
  generate: (context, out) => {
    const { kernel } = context;
    const { space } = kernel;
    const layout = kernel.layout(bpfMap);
    const holders = new BpfHolders(context, "map");
    eachBpf(context, "map", (at, id) => {
      if (readU32(space, at, layout.id) !== id) return false;
      out.id?.push(id);
      pushWord(out.type, out.type && mapType(kernel, at));
      out.name?.pushOr(bpfName(kernel, at, layout.name), CELL.unreadable);
      out.key_size?.pushOr(readU32(space, at, layout.key_size), CELL.unreadable);
      out.value_size?.pushOr(readU32(space, at, layout.value_size), CELL.unreadable);
      out.max_entries?.pushOr(readU32(space, at, layout.max_entries), CELL.unreadable);
      out.flags?.pushOr(readU32(space, at, layout.map_flags), CELL.unreadable);
      if (layout.frozen < 0) out.frozen?.absent(CELL.unsupported);
      else out.frozen?.pushOr(mapFrozen(kernel, at), CELL.unreadable);
      if (out.pids !== undefined) holders.push(out.pids, at);
      out.map?.pushAddress(at.hi, at.lo);
      return readU32(space, at, layout.id) === id;
    });
  },
});
