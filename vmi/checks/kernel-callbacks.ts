import { formatHalves, type Halves } from "../bytes/address.ts";
import { walkBinaryFormats, walkPacketHandlers } from "../linux/handlers.ts";
import { walkNetfilterHooks } from "../linux/netfilter.ts";
import { walkNotifiers } from "../linux/notifiers.ts";
import { isNull, latin1 } from "../linux/read.ts";
import { type CheckContext, defineCheck, type Severity } from "./check.ts";
import { callbackSeverity, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";

const ALL = { namespaces: undefined, families: undefined, hooks: undefined };
/** Whoever is told of these sees what is typed. */
const KEYS = new Set(["keyboard_notifier_list", "vt_notifier_list"]);

export const kernelCallbacks = defineCheck({
  name: "kernel-callbacks",
  severity: "critical",
  cost: "walk",
  compares:
    "Whose the code is that the kernel calls because somebody registered it: at the events of the notifier chains (keys, " +
    "modules, reboots, devices), at netfilter's hooks, for packets of a protocol or all, and for files that are to be run. " +
    "It has to be the kernel's, or of a module that came with it.",
  misses:
    "Chains that belong to single objects or to modules, and hooks that are registered elsewhere. A callback of the kernel " +
    "itself that a rootkit registered for its purposes. Drivers from out of the kernel's tree register callbacks too, and are " +
    "reported with severity medium (high where they see keys or packets). Code in no module is critical: no honest " +
    "software has that. " +
    TAINTS_ARE_TRUSTED,
  confirm:
    "SELECT chain, symbol, module FROM notifier_chains; SELECT family, hook, symbol, module FROM netfilter_hooks; SELECT " +
    "name, taints FROM kernel_modules; in the guest, which may lie, /proc/net/ptype and nft list hooks.",
  reads: [
    "notifier_block, and the heads of chains",
    "net.nf, nf_hook_entries, nf_hook_ops",
    "ptype_all (until 6.14, and in struct net from 6.16), ptype_base, packet_type",
    "elf_format, linux_binfmt",
    "modules",
  ],
  look: (context) => {
    notifiers(context);
    netfilter(context);
    packets(context);
    formats(context);
  },
});

function notifiers(context: CheckContext): void {
  const broken = walkNotifiers(context.kernel, undefined, context.budget, ({ chain, callback, block }) => {
    const foreign = KEYS.has(chain) ? "high" : "medium";
    judge(context, chain, `is told of the events of ${chain}`, callback, block, foreign);
    return true;
  });
  for (const chain of broken) context.incomplete(`the notifier chain ${chain} could not be followed to its end`);
}

function netfilter(context: CheckContext): void {
  const walk = walkNetfilterHooks(context.kernel, ALL, context.budget, (found) => {
    const { family, hook, device, registered, netns } = found;
    const at = device === undefined ? `${family} ${hook}` : `${family} ${hook} of ${latin1(device)}`;
    const place = `${at} in network namespace ${netns ?? "?"}`;
    judge(context, `netfilter ${at}`, `sees the packets of ${place}`, found.function, found.priv, "high");
    if (registered === false) {
      const owner = codeOwner(context, found.function);
      context.report({
        what: `the netfilter hooks of ${place} were changed: ${owner.text} is called`,
        where: place,
        evidence: `calls ${formatHalves(found.function.hi, found.function.lo)}`,
        expected: "the function that was registered there",
        identity: `changed ${at} ${owner.name}`,
        address: found.function,
      });
    }
    return true;
  });
  for (const missing of walk.missing) context.incomplete(missing);
}

function packets(context: CheckContext): void {
  const walk = walkPacketHandlers(context.kernel, context.budget);
  if (!walk.complete) context.incomplete("the handlers of packets could not be followed to their end");
  for (const { protocol, function: called, at } of walk.found) {
    const which = protocol === undefined ? "all protocols" : `protocol 0x${protocol.toString(16).padStart(4, "0")}`;
    judge(context, `packets of ${which}`, `gets the packets of ${which}`, called, at, "high");
  }
}

function formats(context: CheckContext): void {
  const walk = walkBinaryFormats(context.kernel, context.budget);
  if (!walk.complete) context.incomplete("the formats of programs could not be followed to their end");
  for (const { function: called, at } of walk.found) {
    judge(context, "binary format", "is asked about each program that is started", called, at, "high");
  }
}

function judge(context: CheckContext, list: string, does: string, called: Halves, at: Halves, foreign: Severity): void {
  const owner = codeOwner(context, called);
  const severity = callbackSeverity(owner, foreign);
  if (severity === undefined) return;
  context.report({
    what: `${owner.text} ${does}`,
    // What a netfilter hook has beside its function may be nothing.
    where: isNull(at) ? list : `${list}, ${formatHalves(at.hi, at.lo)}`,
    evidence: `calls ${formatHalves(called.hi, called.lo)}`,
    expected: "a function of the kernel, or of a module that came with it",
    identity: `${list} ${owner.name}`,
    severity,
    address: called,
  });
}
