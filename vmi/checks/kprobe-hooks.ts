import { formatHalves, type Halves } from "../bytes/address.ts";
import { describeAddress, symbolText } from "../linux/kernel-address.ts";
import { kprobe, kprobeEvent, returnProbeHandler, walkKprobes } from "../linux/kprobe.ts";
import { isNull, latin1, readPointer } from "../linux/read.ts";
import { type CheckContext, defineCheck } from "./check.ts";
import { callbackSeverity, codeOwner, TAINTS_ARE_TRUSTED } from "./code-owner.ts";

export const kprobeHooks = defineCheck({
  name: "kprobe-hooks",
  severity: "high",
  cost: "walk",
  compares:
    "Each registered kprobe and kretprobe (kprobe_table), and whose the code is that it calls: a module that did not come " +
    "with the kernel, or code in no module, watches or changes what the kernel does there. Probes of perf, tracefs and BPF " +
    "are told as info.",
  misses:
    "A breakpoint that was written without registering is found by inline-hook and kernel-text. Monitoring software with a " +
    "module of its own is reported. A probe that is registered for a moment, as to learn an address, is seen only while it is there. " +
    TAINTS_ARE_TRUSTED,
  confirm:
    "SELECT address, symbol, offset, pre_handler_symbol, pre_handler_module FROM kprobes WHERE event IS NULL; in the " +
    "guest, which may lie, cat /sys/kernel/debug/kprobes/list.",
  reads: [
    "kprobe_table",
    "kprobe",
    "kretprobe",
    "trace_kprobe and trace_probe_event (from 5.4: 60d53e2c3b75)",
    "modules",
  ],
  look: (context) => {
    const { kernel, budget } = context;
    const walk = walkKprobes(kernel, budget, ({ at }) => {
      judge(context, at);
      return true;
    });
    if (!walk.complete) context.incomplete("the table of kprobes could not be followed to its end");
  },
});

function judge(context: CheckContext, at: Halves): void {
  const { kernel, budget } = context;
  const { space } = kernel;
  const layout = kernel.layout(kprobe);
  const address = readPointer(space, at, layout.addr);
  if (address === undefined) return;
  const returns = returnProbeHandler(kernel, at);
  const handlers = [
    readPointer(space, at, layout.pre_handler),
    readPointer(space, at, layout.post_handler),
    returns,
  ].filter((handler) => handler !== undefined && !isNull(handler)) as Halves[];
  const place = symbolText(describeAddress(kernel, address, budget)) ?? formatHalves(address.hi, address.lo);
  const event = kprobeEvent(kernel, at);
  // Of a probe for events the dispatcher is called, which is the kernel's own: the event says what it is for.
  const judged = handlers.map((handler) => {
    const owner = codeOwner(context, handler);
    return { handler, owner, severity: callbackSeverity(owner, "high") };
  });
  const worst = judged.find(({ severity }) => severity !== undefined) ?? judged[0];
  if (worst === undefined) return;
  const { handler, owner, severity = "info" } = worst;
  const what = event === undefined ? owner.text : `event ${latin1(event)}`;
  context.report({
    what: `${place} has a ${returns === undefined ? "kprobe" : "kretprobe"}: ${severity === "info" ? what : owner.text}`,
    where: `${place} at ${formatHalves(address.hi, address.lo)}`,
    evidence: `kprobe at ${formatHalves(at.hi, at.lo)}, calls ${formatHalves(handler.hi, handler.lo)}`,
    expected: "no kprobe, or one of the kernel's own tracers",
    identity: `${place} ${event === undefined ? owner.name : latin1(event)}`,
    severity,
    address: handler,
  });
}
