import { spawn } from "node:child_process";

/**
 * Runs a program to its end.
 * @returns what it wrote to its standard output.
 * @throws Error with the end of its error output when it fails.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Buffer> {
  const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const output: Buffer[] = [];
  let errors = "";
  child.stdout.on("data", (part: Buffer) => output.push(part));
  child.stderr.on("data", (part: Buffer) => {
    errors = (errors + part.toString()).slice(-2000);
  });
  const status = await new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(signal ?? String(code)));
  });
  if (status !== "0") throw new Error(`${program} ${args.join(" ")}: ended with ${status}\n${errors.trim()}`);
  return Buffer.concat(output);
}
