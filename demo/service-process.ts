// One of the service's programs as a process of its own: started, waited for, restarted, ended.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface ServiceProcess extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Its output so far. */
  log(): string;
  /** Ends it: SIGTERM, and SIGKILL when that doesn't do it in five seconds. */
  stop(): Promise<void>;
}

export interface ServiceProcessSpec {
  name: string;
  command: string[];
  cwd: string;
  env?: NodeJS.ProcessEnv;
  /** Where its output goes. */
  logFile: string;
  /** A port of 127.0.0.1 that it listens on once it is ready. */
  port: number;
}

/** Starts a program and waits until it listens. Throws with the end of its log when it ends before that. */
export async function startServiceProcess(spec: ServiceProcessSpec): Promise<ServiceProcess> {
  const log = openSync(spec.logFile, "a", 0o600);
  // It ends with us however we end. In a session of its own: ^C at a terminal is for us to handle, in order.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", ...spec.command], {
    cwd: spec.cwd,
    env: { ...process.env, ...spec.env },
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  const exited = new Promise<void>((done) => {
    child.once("exit", () => done());
    child.once("error", () => done());
  });
  const service: ServiceProcess = {
    name: spec.name,
    pid: child.pid ?? 0,
    log: () => readFileSync(spec.logFile, "utf8"),
    stop: () => stop(child, exited),
    [Symbol.asyncDispose]: () => stop(child, exited),
  };
  try {
    await listening(spec, child);
  } catch (error) {
    await service.stop();
    throw error;
  }
  return service;
}

const hasEnded = (child: ChildProcess) =>
  child.pid === undefined || child.exitCode !== null || child.signalCode !== null;

async function listening(spec: ServiceProcessSpec, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await answers(spec.port))) {
    const tail = () => readFileSync(spec.logFile, "utf8").trimEnd().split("\n").slice(-5).join("\n");
    if (hasEnded(child)) throw new Error(`${spec.name} has ended at once; its last lines:\n${tail()}`);
    if (performance.now() > deadline)
      throw new Error(`${spec.name} does not listen after 30 s; its last lines:\n${tail()}`);
    await sleep(50);
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    const end = (result: boolean) => {
      socket.destroy();
      done(result);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}

async function stop(child: ChildProcess, exited: Promise<void>): Promise<void> {
  if (hasEnded(child)) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await exited;
  clearTimeout(timer);
}

/** A TCP port of 127.0.0.1 that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer();
    server.once("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (address && typeof address === "object" ? done(address.port) : failed(new Error("no port"))));
    });
  });
}
