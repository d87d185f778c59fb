import {
  bpfName,
  bpfProg,
  bpfProgAux,
  programAux,
  programJited,
  programJitedSize,
  programLoadTime,
  programMaps,
  programOwner,
  programSize,
  programTag,
  programTarget,
  programTargetObject,
  programType,
} from "../linux/bpf.ts";
import { readPointer, readU32 } from "../linux/read.ts";
import { BpfHolders, eachBpf, pushText, pushWord } from "./bpf-cells.ts";
import { CELL } from "./columns.ts";
import { defineTable, integer, text } from "./table.ts";

/** One row a program: what BPF_PROG_GET_NEXT_ID finds and BPF_OBJ_GET_INFO_BY_FD says. */
export const loadedBpfPrograms = defineTable({
  name: "loaded_bpf_programs",
  description: "BPF programs in the kernel, with what loaded them and what they are attached to",
  columns: {
    id: integer("Id of the program", { key: true }),
    type: text("socket_filter, kprobe, tracing, cgroup_skb, …: bpftool's words; a number for one newer than they"),
    name: text("Name that its loader gave it, at most 15 bytes; may be empty"),
    tag: text("Digest of its instructions, sixteen hexadecimal digits"),
    load_time: integer("When it was loaded: nanoseconds since boot, time in suspend included"),
    uid: integer("User id of who loaded it, in the initial user namespace"),
    jited: integer("1 when it is compiled to machine code"),
    jited_address: text("Where the code begins that runs it (bpf_func)"),
    jited_size: integer("Bytes of machine code, with its functions"),
    xlated_size: integer("Bytes of its instructions as the verifier left them"),
    verified_instructions: integer("Instructions that the verifier looked at (from 5.16)"),
    attach_function: text("Kernel function or tracepoint that a program of type tracing, lsm or ext is made for"),
    attach_object: text("Whose that function is: vmlinux or a module"),
    maps: text("Ids of the maps that it uses, separated by commas"),
    pids: text(
      "Processes that have a descriptor of it, separated by commas; absent when none has: it is attached or pinned",
    ),
    program: text("Address of the struct bpf_prog"),
  },
  cost: "walk",
  atOnce: true,
  reads: [
    "prog_idr",
    "bpf_prog",
    "bpf_prog_aux (verified_insns from 5.16: aba64c7da983; attach_func_name from 5.5: f1b9509c2fb0)",
    "user_struct",
    "btf (name from 5.11: 5329722057d4)",
    "file (for pids)",
  ],
  examples: [
    "SELECT id, type, name, uid, pids FROM loaded_bpf_programs WHERE type IN ('kprobe', 'tracing', 'raw_tracepoint')",
    "SELECT id, name FROM loaded_bpf_programs WHERE pids IS NULL",
  ],
  generate: (context, out) => {
    const { kernel, budget } = context;
    const { space } = kernel;
    const layout = kernel.layout(bpfProg);
    const auxLayout = kernel.layout(bpfProgAux);
    const holders = new BpfHolders(context, "program");
    eachBpf(context, "program", (at, id) => {
      const aux = programAux(kernel, at, id);
      if (aux === undefined) return false;
      out.id?.push(id);
      pushWord(out.type, out.type && programType(kernel, at));
      out.name?.pushOr(bpfName(kernel, aux, auxLayout.name), CELL.unreadable);
      pushWord(out.tag, out.tag && programTag(kernel, at));
      out.load_time?.pushOr(programLoadTime(kernel, aux), CELL.unreadable);
      out.uid?.pushOr(programOwner(kernel, aux), CELL.unreadable);
      out.jited?.pushOr(programJited(kernel, at), CELL.unreadable);
      const code = out.jited_address && readPointer(space, at, layout.bpf_func);
      if (code === undefined) out.jited_address?.absent(CELL.unreadable);
      else out.jited_address?.pushAddress(code.hi, code.lo);
      out.jited_size?.pushOr(programJitedSize(kernel, at, aux, budget), CELL.unreadable);
      out.xlated_size?.pushOr(programSize(kernel, at), CELL.unreadable);
      if (auxLayout.verified_insns < 0) out.verified_instructions?.absent(CELL.unsupported);
      else out.verified_instructions?.pushOr(readU32(space, aux, auxLayout.verified_insns), CELL.unreadable);
      pushText(out.attach_function, out.attach_function && programTarget(kernel, aux));
      pushText(out.attach_object, out.attach_object && programTargetObject(kernel, aux));
      pushWord(out.maps, out.maps && programMaps(kernel, aux, budget)?.join(","));
      if (out.pids !== undefined) holders.push(out.pids, at);
      out.program?.pushAddress(at.hi, at.lo);
      // Still the same: what was read is of one program.
      return programAux(kernel, at, id) !== undefined;
    });
  },
});
