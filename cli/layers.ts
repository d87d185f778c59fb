import { InvalidArgumentError } from "commander";
import type { Layer } from "../agent/index.ts";

// Loading the agent for three words would cost every command; this way a new layer is a type error here.
const known: Record<Layer, true> = { namespaces: true, uid: true, seccomp: true };

/** Layers of the inspectors' sandbox, with commas between. */
export function parseLayers(text: string): Layer[] {
  const names = text.split(",").map((name) => name.trim());
  if (!names.every((name): name is Layer => Object.hasOwn(known, name))) {
    throw new InvalidArgumentError(`Write some of ${Object.keys(known).join(",")}.`);
  }
  return names;
}
