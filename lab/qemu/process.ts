import { existsSync } from "node:fs";

const SETPRIV = "/usr/bin/setpriv";

/** The command that runs a program so that it is killed when this process dies, however that happens. */
export function diesWithUs(program: string, args: readonly string[]): [string, string[]] {
  if (!existsSync(SETPRIV)) return [program, [...args]];
  return [SETPRIV, ["--pdeathsig", "KILL", "--", program, ...args]];
}
