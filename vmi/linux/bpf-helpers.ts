import type { Budget } from "../budget.ts";
import type { Halves } from "../bytes/address.ts";
import { struct, symbol } from "../symbols/specs.ts";
import { bpfProg } from "./bpf.ts";
import type { Kernel } from "./kernel.ts";
import { plus, readU32 } from "./read.ts";

/** include/linux/bpf.h: the instructions come behind the structure. */
const bpfProgCode = struct("bpf_prog", { insnsi: "insnsi" });
/** kernel/bpf/core.c: calls are relative to it (include/linux/filter.h: BPF_CALL_ARGS, __bpf_call_base). */
const callBase = symbol("?__bpf_call_base");
/** kernel/trace/bpf_trace.c: what changes more than the program's own memory. */
const helpers = {
  bpf_probe_write_user: symbol("?bpf_probe_write_user"),
  bpf_override_return: symbol("?bpf_override_return"),
  bpf_send_signal: symbol("?bpf_send_signal"),
  bpf_send_signal_thread: symbol("?bpf_send_signal_thread"),
} as const;

export type BpfHelper = keyof typeof helpers;

/** Bytes of a struct bpf_insn: code, registers, offset, and the immediate value. */
const INSTRUCTION = 8;
const IMMEDIATE = 4;
/** BPF_JMP | BPF_CALL; a source register of 0 means a helper. */
const CALL = 0x85;
/** BPF_COMPLEXITY_LIMIT_INSNS: no program has more. */
const MAX_INSTRUCTIONS = 1_000_000;
/** Instructions that are looked at in one piece. */
const PIECE = 512;
/** Instructions that take as long as an element of a list. */
const STRIDE = 16;

/** Which of `helpers` a program calls: the verifier has put their addresses into its instructions. Undefined when they can't be read. */
export function dangerousHelpers(kernel: Kernel, program: Halves, budget: Budget): ReadonlySet<BpfHelper> | undefined {
  const base = kernel.optionalPlace(callBase);
  const { insnsi } = kernel.layout(bpfProgCode);
  const count = readU32(kernel.space, program, kernel.layout(bpfProg).len);
  const found = new Set<BpfHelper>();
  if (base === undefined || count === undefined || count > MAX_INSTRUCTIONS) return undefined;
  const places = Object.entries(helpers).flatMap(([name, spec]) => {
    const place = kernel.optionalPlace(spec);
    return place === undefined ? [] : [{ name: name as BpfHelper, distance: (place.lo - base.lo) | 0 }];
  });
  const bytes = new Uint8Array(PIECE * INSTRUCTION);
  const view = new DataView(bytes.buffer);
  for (let done = 0; done < count; done += PIECE) {
    const piece = Math.min(PIECE, count - done);
    budget.spend(1 + Math.trunc(piece / STRIDE));
    const { hi, lo } = plus(program, insnsi + done * INSTRUCTION);
    if (kernel.space.read(hi, lo, bytes.subarray(0, piece * INSTRUCTION)) < piece * INSTRUCTION) return undefined;
    for (let i = 0; i < piece; i++) {
      if (bytes[i * INSTRUCTION] !== CALL || bytes[i * INSTRUCTION + 1]! >> 4 !== 0) continue;
      const to = view.getInt32(i * INSTRUCTION + IMMEDIATE, true);
      for (const { name, distance } of places) if (distance === to) found.add(name);
    }
  }
  return found;
}
