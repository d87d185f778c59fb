import { bpfLink, linkProgram, linkTarget, linkType, programId } from "../linux/bpf.ts";
import { readU32 } from "../linux/read.ts";
import { BpfHolders, eachBpf, pushText, pushWord } from "./bpf-cells.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a link: what BPF_LINK_GET_NEXT_ID finds and BPF_OBJ_GET_INFO_BY_FD says. */
export const bpfLinks = defineTable({
  name: "bpf_links",
  description: "Attachments of BPF programs that are objects of their own (from 5.8)",
  columns: {
    id: integer("Id of the link", { key: true }),
    type: text("raw_tracepoint, tracing, cgroup, perf_event, …; a number for one newer than they"),
    program_id: integer("Id of the program that is attached"),
    target: text("Tracepoint or function of a link of type raw_tracepoint or tracing"),
    pids: text("Processes that have a descriptor of it, separated by commas; absent when none has: it is pinned"),
    link: text("Address of the struct bpf_link"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "link_idr (from 5.8: a3b80e107894)",
    "bpf_link",
    "bpf_raw_tp_link",
    "bpf_raw_event_map",
    "tracepoint",
    "file (for pids)",
  ],
  examples: [
    "SELECT l.type, l.target, p.name FROM bpf_links l JOIN loaded_bpf_programs p ON p.vm = l.vm AND p.id = l.program_id",
  ],
  generate: (context, out) => {
    const { kernel } = context;
    const layout = kernel.layout(bpfLink);
    const holders = new BpfHolders(context, "link");
    eachBpf(context, "link", (at, id) => {
      if (readU32(kernel.space, at, layout.id) !== id) return false;
      const type = linkType(kernel, at);
      const program = linkProgram(kernel, at);
      out.id?.push(id);
      pushWord(out.type, type);
      if (program === "none") out.program_id?.absent(CELL.notApplicable);
      else out.program_id?.pushOr(program && programId(kernel, program), CELL.unreadable);
      pushText(out.target, out.target && linkTarget(kernel, at, type));
      if (out.pids !== undefined) holders.push(out.pids, at);
      out.link?.pushAddress(at.hi, at.lo);
      return readU32(kernel.space, at, layout.id) === id;
    });
  },
});
