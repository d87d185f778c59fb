import type { Kernel } from "../linux/kernel.ts";
import { kernelTextReference } from "../linux/kernel-text.ts";
import { FirstText, liveSites, PROBE_SIZE, readText, textBounds } from "../linux/live-text.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { probedPlaces } from "./probed-places.ts";
import { reportChanges, reportStrangeSites } from "./text-changes.ts";

export const kernelText = defineCheck({
  name: "kernel-text",
  severity: "critical",
  cost: "scan",
  compares:
    "The kernel's whole text in memory with the image of the same build that the operator gives, byte by byte, moved to " +
    "where the guest's kernel is. Where the kernel changes its own text (alternatives, jump labels, static calls, places of " +
    "the function tracer, returns, indirect branches, locks, constants, kprobes), the tables that it was linked with say so, and " +
    "what is there has to be what the kernel makes of it: a jump label leads to its own label, a static call to the kernel or to " +
    "a module that came with it, a tracer's call to the tracer. Without an image the text is compared with itself, as it was " +
    "when it was first looked at, and the tables in the guest's memory say where the kernel changes it while it runs; what is at " +
    "those places has to be what the kernel makes of them at the first look, too.",
  misses:
    "Without the image, what was changed before the first look (a line of severity info says when that was), but for places that the kernel changes " +
    "itself: the first look is kept by the guest's inspector, and taken anew when that ends, or the guest is started again or seems to be: " +
    "who controls the guest can bring that about. Whoever changes the tables of those places in the guest's memory can change the places; " +
    "what a probe covers at the first look is taken as it is when the probe is gone. Text of modules, and what serves only while the kernel starts, is not looked " +
    "at. A static call or jump label that was switched to another of its honest states is none of the findings, nor is a " +
    "change of constants that the kernel sets as it starts. Code that is " +
    "run from another mapping than the kernel's own (a changed page table) is not seen.",
  confirm:
    "Disassemble both: the bytes that were found, and those that the image has there (original_code of the finding); or " +
    "compare with the same address of another machine with this build.",
  reads: [
    "_text to _etext",
    "of the image: .text, .altinstructions, .retpoline_sites, .return_sites, .ibt_endbr_seal, .smp_locks, .parainstructions (until 6.8), runtime_* (from 6.12)",
    "__start_mcount_loc, __start___jump_table, __start_static_call_sites",
    "without an image: ftrace_pages_start, __smp_locks",
    "kprobe_table, bpf_kallsyms, ftrace_ops_list, modules",
  ],
  look: (context) => {
    const { kernel, budget } = context;
    const reference = kernelTextReference(kernel);
    if (typeof reference === "string") context.incomplete(reference);
    const given = typeof reference === "object" ? reference : undefined;
    const bounds = given === undefined ? textBounds(kernel) : { start: given.start, length: given.bytes.length };
    const text = bounds && readText(kernel, bounds, budget);
    if (text === undefined) context.incomplete("not all of the kernel's text can be read");
    else if (given !== undefined) reportChanges(context, given, text, "in its image");
    else compareWithFirst(context, bounds!.start, text);
  },
});

const firstTexts = new WeakMap<Kernel, FirstText>();

/** What there is to compare with without an image: the tables in the guest's memory, and an earlier look. */
function compareWithFirst(context: CheckContext, start: number, text: Buffer): void {
  const { kernel, budget } = context;
  const probed = new Set([...context.shared(probedPlaces)].filter((place) => isWithin(place >>> 0, start, text)));
  let first = firstTexts.get(kernel);
  if (first === undefined) {
    const sites = liveSites(kernel, start, text, budget);
    if (sites === undefined) {
      context.incomplete("the tables of where the kernel changes its text can't be read");
      return;
    }
    first = new FirstText(start, text, sites, probed);
    firstTexts.set(kernel, first);
  }
  const since = `${new Date(first.taken).toISOString().slice(0, 19)}Z`;
  reportNoImage(context, since);
  first.compare(text, probed, (reference) => {
    const changes = reportChanges(context, reference, text, `at ${since}`);
    const lasting = reportStrangeSites(context, reference, text, changes);
    return lasting && changes.length === 0 && probed.size === 0;
  });
}

const isWithin = (address: number, start: number, text: Buffer) =>
  address >= start && address + PROBE_SIZE <= start + text.length;

function reportNoImage({ kernel, report }: CheckContext, since: string): void {
  report({
    what: `the kernel's text is compared with itself, as it was at ${since}: there is no image to compare it with`,
    where: `Linux ${kernel.release}, build ${kernel.buildId}`,
    evidence: "no image",
    expected: "the vmlinuz of this build, from the operator: it shows what was changed earlier, too",
    identity: "no image",
    severity: "info",
  });
}
