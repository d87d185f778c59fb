import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureKernel, extendKernel } from "./ensure.ts";
import { chooseAcceleration } from "./qemu/acceleration.ts";
import { type Channel, openChannel } from "./qemu/channel.ts";
import { type Acceleration, qemuArguments, type RunFiles, runFiles } from "./qemu/command.ts";
import { diesWithUs } from "./qemu/process.ts";
import { monitorCommand } from "./qemu/qmp.ts";
import { newRamFile, newRunFolder } from "./qemu/run-folder.ts";
import { type GuestSpec, type ResolvedSpec, resolveSpec } from "./spec.ts";
import { type Entry, readArchive } from "./truth/archive.ts";
import { textOf } from "./truth/bytes.ts";
import { type KernelSymbol, parseKallsyms } from "./truth/kernel.ts";
import { parseTruth, type Truth } from "./truth/truth.ts";

/** An emulated guest on a busy machine is up well within this. */
const BOOT_TIMEOUT_MS = 240_000;
const REQUEST_TIMEOUT_MS = 120_000;

/** A virtual machine of the lab. Closing it ends QEMU and removes its files. */
export class LabGuest implements AsyncDisposable {
  readonly spec: ResolvedSpec;
  /** QEMU's process id. */
  readonly pid: number;
  readonly uuid: string;
  readonly name: string;
  /** Monitor for the agent or CLI under test. One client at a time, as always with QEMU. */
  readonly qmp: string;
  /** Second monitor, for what a test compares with. */
  readonly groundQmp: string;
  /** The file that is the guest's RAM, for RAM of the kind `file`. */
  readonly ramFile: string | undefined;
  readonly acceleration: Acceleration;
  /** Fulfilled when QEMU has ended, for whatever reason. */
  readonly exited: Promise<void>;
  readonly #files: RunFiles;
  readonly #child: ChildProcess;
  readonly #ownsRamFile: boolean;
  #channel: Promise<Channel> | undefined;
  #bootId = "";

  /** Use `bootGuest`, `launchGuest` or `bootFirmwareOnly`. */
  constructor(started: Started) {
    this.spec = started.spec;
    this.pid = started.child.pid!;
    this.uuid = started.spec.uuid;
    this.name = started.spec.name;
    this.qmp = started.files.qmp;
    this.groundQmp = started.files.groundQmp;
    this.ramFile = started.ramFile;
    this.acceleration = started.acceleration;
    this.exited = started.exited;
    this.#files = started.files;
    this.#child = started.child;
    this.#ownsRamFile = started.spec.ramFile === undefined;
  }

  /**
   * Waits until the guest and its workload are up. An emulated kernel that panics while it boots is reset once: QEMU without
   * KVM breaks one boot in some hundred so, on a busy machine.
   * @throws Error with the end of the guest's console when it does not come up.
   */
  async ready(progress: (line: string) => void = () => {}): Promise<void> {
    if (this.spec.stateFile !== undefined) return;
    const failure = new AbortController();
    const limit = AbortSignal.timeout(BOOT_TIMEOUT_MS);
    const signal = AbortSignal.any([failure.signal, limit]);
    void this.exited.then(() => failure.abort(new Error("QEMU ended")));
    let mayReset = this.acceleration === "tcg";
    let from = 0;
    const watch = setInterval(() => {
      const said = this.console().slice(from);
      if (!said.includes("Kernel panic")) return;
      if (!mayReset) {
        failure.abort(new Error("its kernel panicked"));
        return;
      }
      mayReset = false;
      from += said.length;
      progress(`${this.name}: its kernel panicked while it booted; resetting it once`);
      this.monitor("system_reset").catch((error: Error) => failure.abort(error));
    }, 500);
    try {
      this.#bootId = await this.#hello(signal);
    } catch (error) {
      const why = signal.aborted ? String((signal.reason as Error).message) : (error as Error).message;
      throw new Error(`guest ${this.name} did not come up: ${why}\n${this.console().slice(-1500)}`.trimEnd());
    } finally {
      clearInterval(watch);
    }
  }

  /**
   * Runs a shell command in the guest, as root.
   * @returns what it wrote to standard output and error, as text without loss (see `textOf`).
   * @throws Error when it fails, with its output.
   */
  async exec(command: string, timeoutMs: number = REQUEST_TIMEOUT_MS): Promise<string> {
    const { status, output } = await this.run(command, timeoutMs);
    if (status !== 0)
      throw new Error(`in guest ${this.name}: ${command}: ended with ${status}: ${textOf(output).trim()}`);
    return textOf(output);
  }

  /** Runs a shell command in the guest, as root: its exit status (negative: the signal that ended it) and output. */
  async run(command: string, timeoutMs: number = REQUEST_TIMEOUT_MS): Promise<{ status: number; output: Buffer }> {
    const { status, data } = await this.#request("run", command, timeoutMs);
    return { status, output: data };
  }

  /** Everything the guest's own /proc says of its processes and kernel, collected in one go. */
  async truth(): Promise<Truth> {
    const { data } = await this.#request("truth", "", REQUEST_TIMEOUT_MS);
    return parseTruth(readArchive(data));
  }

  /** The guest's own /proc/kallsyms: some 200,000 symbols; an emulated guest takes seconds for it. */
  async kallsyms(): Promise<KernelSymbol[]> {
    const entry = (await this.readFiles(["/proc/kallsyms"])).get("/proc/kallsyms");
    if (entry?.kind !== "file") throw new Error(`guest ${this.name} could not read its /proc/kallsyms`);
    return parseKallsyms(entry.data.toString("latin1"));
  }

  /** Files of the guest by path, compressed on the way. */
  async readFiles(paths: readonly string[]): Promise<Map<string, Entry>> {
    const { data } = await this.#request("files", paths.join("\0"), REQUEST_TIMEOUT_MS);
    return readArchive(data);
  }

  /** Runs a QMP command on a monitor of the lab's own: `qmp` and `groundQmp` stay free. */
  monitor(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return monitorCommand(this.#files.labQmp, command, args);
  }

  /** Resets the machine without warning, as its button would, and waits until it is up again. RAM keeps what it holds. */
  async reset(): Promise<void> {
    await this.monitor("system_reset");
    await this.awaitReboot();
  }

  /**
   * Stops the machine and saves all of it but its RAM, which must be in a file, for others to begin with (`stateFile`).
   * It stands still after that.
   */
  async saveState(path: string): Promise<void> {
    await this.monitor("migrate-set-capabilities", ramStays);
    await this.monitor("migrate", { uri: `exec:cat > '${path}'` });
    await this.#until("query-migrate", "completed");
  }

  /** Takes the state that its spec names, and stands still. */
  async loadState(path: string): Promise<void> {
    await this.monitor("migrate-set-capabilities", ramStays);
    await this.monitor("migrate-incoming", { uri: `exec:cat '${path}'` });
    await this.#until("query-status", "paused");
  }

  async #until(query: "query-migrate" | "query-status", wanted: string): Promise<void> {
    for (;;) {
      const { status } = (await this.monitor(query)) as { status?: string };
      if (status === wanted) return;
      if (status === "failed" || status === "internal-error")
        throw new Error(`guest ${this.name}: QEMU says ${status}`);
      await sleep(20);
    }
  }

  /** Has the guest reboot itself and waits until it is up again. */
  async reboot(): Promise<void> {
    await this.run(later("reboot"));
    await this.awaitReboot();
  }

  /** Waits until the guest is up after a reboot, however that was caused. */
  async awaitReboot(): Promise<void> {
    const before = this.#bootId;
    do {
      await this.#disconnect();
      await sleep(50);
      await this.ready();
    } while (this.#bootId === before);
  }

  /** Has the guest power itself off and waits for QEMU's end. */
  async shutdown(): Promise<void> {
    await this.run(later("poweroff"));
    await this.exited;
  }

  /** What the guest wrote on its serial console so far. */
  console(): string {
    try {
      return readFileSync(this.#files.console, "latin1");
    } catch {
      return "";
    }
  }

  /** Ends QEMU at once and removes the guest's files; a RAM file that was given is kept. */
  async close(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
    await this.#disconnect();
    rmSync(this.#files.folder, { recursive: true, force: true });
    if (this.#ownsRamFile && this.ramFile) rmSync(this.ramFile, { force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #hello(signal: AbortSignal): Promise<string> {
    while (true) {
      // A guest that is reset after it read the question never answers: ask again, on a connection without its remains.
      const attempt = AbortSignal.any([signal, AbortSignal.timeout(10_000)]);
      try {
        const { data } = await (await this.#connected(attempt)).request("hello", "", attempt);
        return data.toString();
      } catch (error) {
        if (signal.aborted) throw error;
        await this.#disconnect();
        await sleep(20);
      }
    }
  }

  async #request(kind: "run" | "files" | "truth", payload: string, timeoutMs: number) {
    const signal = AbortSignal.timeout(timeoutMs);
    return (await this.#connected(signal)).request(kind, payload, signal);
  }

  #connected(signal: AbortSignal): Promise<Channel> {
    this.#channel ??= openChannel(this.#files.control, signal).catch((error: unknown) => {
      this.#channel = undefined;
      throw error;
    });
    return this.#channel;
  }

  async #disconnect(): Promise<void> {
    const channel = this.#channel;
    this.#channel = undefined;
    (await channel?.catch(() => undefined))?.close();
  }
}

/** RAM that is in a file is left there. */
const ramStays = { capabilities: [{ capability: "x-ignore-shared", state: true }] };

/** A command that takes effect after its answer, which it would take away otherwise. */
function later(command: string): string {
  return `(sleep 0.2; ${command}) &`;
}

interface Started {
  spec: ResolvedSpec;
  files: RunFiles;
  child: ChildProcess;
  exited: Promise<void>;
  acceleration: Acceleration;
  ramFile: string | undefined;
}

/** Boots a guest and waits until its workload runs. Prepares the machine first (see `ensureKernel`). */
export async function bootGuest(spec: GuestSpec, progress: (line: string) => void = () => {}): Promise<LabGuest> {
  const guest = await launchGuest(spec, progress);
  try {
    await guest.ready(progress);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  }
}

/** Starts a guest and returns while it is still booting; `ready()` waits. */
export async function launchGuest(spec: GuestSpec, progress: (line: string) => void = () => {}): Promise<LabGuest> {
  return start(spec, true, progress);
}

/** A machine without a system: it stays in its firmware, which finds nothing to boot. */
export async function bootFirmwareOnly(
  spec: Omit<GuestSpec, "kernel"> = {},
  progress: (line: string) => void = () => {},
): Promise<LabGuest> {
  return start({ kernel: "6.1", name: "lab-firmware", ...spec }, false, progress);
}

async function start(asked: GuestSpec, kernel: boolean, progress: (line: string) => void): Promise<LabGuest> {
  const spec = resolveSpec(asked, randomUUID());
  const plain = await ensureKernel({ kernel: spec.kernel, flavour: spec.flavour, release: spec.release }, progress);
  const boot = await extendKernel(plain, spec, progress);
  const acceleration = accelerationFor(spec, await chooseAcceleration(boot, progress));
  const files = runFiles(newRunFolder());
  const ramFile =
    spec.ram === "file" ? (spec.ramFile ?? newRamFile(spec.memoryMiB * 1048576, files.folder)) : undefined;
  const args = qemuArguments(spec, files, acceleration, kernel ? boot : undefined, ramFile);
  const child = spawn(...diesWithUs("qemu-system-x86_64", args), { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr!.on("data", (part: Buffer) => {
    errors = (errors + part.toString()).slice(-2000);
  });
  const exited = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      errors += error.message;
      resolve();
    });
    child.once("exit", () => resolve());
  });
  const guest = new LabGuest({ spec, files, child, exited, acceleration, ramFile });
  try {
    await Promise.race([guest.monitor("query-status"), exited.then(() => Promise.reject(new Error("QEMU ended")))]);
    if (spec.stateFile !== undefined) await guest.loadState(spec.stateFile);
    return guest;
  } catch (error) {
    await guest.close();
    throw new Error(`QEMU did not start: ${errors.trim() || (error as Error).message}`);
  }
}

/** A guest that is to have 5-level paging on a processor without it is emulated. */
function accelerationFor(spec: ResolvedSpec, found: Acceleration): Acceleration {
  const lacking = spec.la57 && !/\bla57\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  return lacking ? "tcg" : found;
}
