/** A line of /proc/modules. */
export interface TruthModule {
  name: string;
  /** Bytes. */
  size: number;
  references: number;
  usedBy: string[];
  state: string;
  /** Address of its first section. */
  address: bigint;
  /** Such as "OE", empty when none. */
  taints: string;
}

/** Parses /proc/modules. */
export function parseModules(text: string): TruthModule[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [name, size, references, usedBy, state, address, taints] = line.split(" ");
      return {
        name: name!,
        size: Number(size),
        references: Number(references),
        usedBy: usedBy === "-" ? [] : usedBy!.split(",").filter((user) => user !== ""),
        state: state!,
        address: BigInt(address!),
        taints: (taints ?? "").replaceAll(/[()]/g, ""),
      };
    });
}

/** A line of /proc/iomem. Physical addresses; the end is included. */
export interface TruthRange {
  start: number;
  end: number;
  name: string;
  /** 0 for the outermost ranges. */
  depth: number;
}

/** Parses /proc/iomem. */
export function parseIomem(text: string): TruthRange[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const match = /^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$/.exec(line);
      if (!match) throw new Error(`not a line of /proc/iomem: ${JSON.stringify(line)}`);
      const [, indent, start, end, name] = match as unknown as [string, string, string, string, string];
      return { start: Number.parseInt(start, 16), end: Number.parseInt(end, 16), name, depth: indent.length / 2 };
    });
}

/** A line of /proc/kallsyms. */
export interface KernelSymbol {
  address: bigint;
  /** As nm(1): "T", "d", … */
  type: string;
  name: string;
  /** Undefined for the kernel's own. */
  module: string | undefined;
}

/** Parses /proc/kallsyms. */
export function parseKallsyms(text: string): KernelSymbol[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [rest, module] = line.split("\t");
      const [address, type, name] = rest!.split(" ");
      return { address: BigInt(`0x${address}`), type: type!, name: name!, module: module?.replaceAll(/[[\]]/g, "") };
    });
}
