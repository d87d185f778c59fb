import type { Halves } from "../bytes/address.ts";
import { consistently } from "../linux/consistent.ts";
import { isSigned, kernelTaints, moduleName, moduleState, moduleTaints, walkModules } from "../linux/module.ts";
import { latin1 } from "../linux/read.ts";
import { type CheckContext, defineCheck, SEVERITIES, type Severity } from "./check.ts";

/** What a letter of kernel_modules.taints says, and how bad that is (Documentation/admin-guide/tainted-kernels.rst). */
const TAINTS: Readonly<Record<string, readonly [Severity, string]>> = {
  F: ["high", "was loaded by force"],
  E: ["medium", "is not signed"],
  O: ["low", "is not of the kernel's own source"],
  P: ["low", "is proprietary"],
  N: ["low", "is for tests"],
  T: ["low", "was built with another layout of structures"],
  J: ["low", "changes devices' firmware"],
  C: ["info", "is a driver of lower quality (staging)"],
  X: ["info", "is supported by the distribution only"],
  K: ["info", "patches the kernel while it runs (livepatch)"],
};
/** Letters that the kernel itself has only by a module. */
const OF_MODULES = "PFOE";

export const taintedModule = defineCheck({
  name: "tainted-module",
  severity: "high",
  cost: "walk",
  compares:
    "The taints of each module, and whether the kernel found its signature right (sig_ok), with what a distribution's own " +
    "modules have: none, and a right signature. Taints of the kernel that no module has which is loaded: its module is " +
    "gone, or hides. A module without a right signature and without the taint for that has had its taints removed.",
  misses:
    "A module that is in no list: see the checks of hidden modules. One that cleared taints and sig_ok, and the kernel's own " +
    "mask. Drivers that are built on the machine (DKMS) and proprietary ones are reported: a baseline keeps them.",
  confirm:
    "SELECT name, taints, sha256 FROM kernel_modules. In the guest, /proc/modules shows the letters, /proc/sys/kernel/tainted " +
    "those of the kernel, and its log tells which module tainted it.",
  reads: ["modules", "module.taints and sig_ok (with CONFIG_MODULE_SIG)", "tainted_mask"],
  look: (context) => {
    const { kernel, budget } = context;
    const found = consistently(kernel, budget, () => readModules(context));
    if (found === undefined) context.incomplete("the modules kept changing while they were read");
    const modules = found?.value ?? [];
    for (const { at, name, taints, signed } of modules) {
      const told = taints.split("").flatMap((letter) => [TAINTS[letter] ?? (["low", `has taint ${letter}`] as const)]);
      if (signed === false && !taints.includes("E"))
        told.push(["high", "is not signed, and the taint for that was removed"]);
      if (told.length === 0) continue;
      context.report({
        what: `module ${name} ${told.map(([, what]) => what).join(", ")}`,
        where: `module ${name}`,
        evidence: `taints ${taints || "none"}, signature ${signed === undefined ? "not looked at" : signed ? "right" : "not right"}`,
        expected: "a module of the kernel's own source with a right signature",
        identity: `${name} ${taints}${signed === false ? " unsigned" : ""}`,
        severity: SEVERITIES.find((severity) => told.some(([one]) => one === severity))!,
        address: at,
      });
    }
    const all = new Set(modules.flatMap(({ taints }) => taints.split("")));
    const mask = kernelTaints(kernel) ?? "";
    const left = mask
      .split("")
      .filter((letter) => OF_MODULES.includes(letter) && !all.has(letter))
      .join("");
    // What a module has that is being loaded comes to the kernel's mask first.
    if (left === "" || found === undefined) return;
    context.report({
      what: `the kernel is tainted by a module that is not loaded: ${left
        .split("")
        .map((letter) => TAINTS[letter]![1])
        .join(", ")}`,
      where: "tainted_mask",
      evidence: `the kernel's taints ${mask}; no module of the list has ${left}`,
      expected: "a module that has the taint, or none",
      identity: `kernel ${left}`,
      severity: "low",
    });
  },
});

interface SeenModule {
  readonly at: Halves;
  readonly name: string;
  readonly taints: string;
  readonly signed: boolean | undefined;
}

function readModules(context: CheckContext): SeenModule[] {
  const { kernel, budget } = context;
  const list = walkModules(kernel, budget);
  if (!list.complete) context.incomplete("the module list could not be followed to its end");
  const modules: SeenModule[] = [];
  for (let i = 0; i < list.count; i++) {
    const at = { hi: list.hi[i]!, lo: list.lo[i]! };
    const name = moduleName(kernel, at);
    const taints = moduleTaints(kernel, at);
    if (name === undefined || taints === undefined || moduleState(kernel, at) === undefined) continue;
    modules.push({ at, name: latin1(name), taints, signed: isSigned(kernel, at) });
  }
  return modules;
}
