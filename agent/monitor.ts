/** The monitor of one QEMU process, connected again when the connection breaks while the process lives. */
import { existsSync } from "node:fs";
import { Code, ConnectError } from "@connectrpc/connect";
import { monitorPid, Qmp, QmpError, type QmpEvent, readStartTime } from "../vmi/driver/qemu/index.ts";

export interface Process {
  readonly pid: number;
  /** Clock ticks after the host's start: with the pid, never the same for two processes of one boot. */
  readonly start: string;
}

export interface Monitor {
  readonly process: Process;
  readonly path: string;
  /** Runs `work` with a connection. @throws ConnectError Unavailable when the monitor can't be had. */
  use<T>(work: (qmp: Qmp) => Promise<T>): Promise<T>;
  close(): void;
}

export interface MonitorEvents {
  event(event: QmpEvent): void;
  /** Connected anew: events may have been missed. */
  reconnected(): void;
  /** The process has ended. */
  gone(): void;
}

/** How long to wait before each look after a connection has broken: a process that exits closes it first. */
const lookMs = [5, 20, 100, 500, 1000] as const;

/** @throws QmpError, or Error when the process behind the socket is another than `expected`. */
export async function openMonitor(
  path: string,
  expected: Process | undefined,
  events: MonitorEvents,
): Promise<Monitor> {
  let qmp: Qmp | undefined;
  let connecting: Promise<Qmp> | undefined;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;

  async function connect(): Promise<Qmp> {
    const fresh = await Qmp.connect(path);
    const pid = monitorPid(fresh);
    if (closed || (expected && (pid !== expected.pid || readStartTime(pid) !== expected.start))) {
      fresh.close();
      throw new QmpError("unreachable", `${path}: another process serves this monitor now`);
    }
    fresh.onEvent(events.event);
    qmp = fresh;
    void fresh.closed.then(() => {
      qmp = undefined;
      if (!closed) look(0);
    });
    return fresh;
  }

  function connected(): Promise<Qmp> {
    if (qmp) return Promise.resolve(qmp);
    connecting ??= connect().finally(() => {
      connecting = undefined;
    });
    return connecting;
  }

  /** After a break: until the process has gone, or answers again. */
  function look(turn: number): void {
    clearTimeout(timer);
    if (closed) return;
    // Still silent, or busy with another client: look again, until the process has gone.
    if (!alive(process)) {
      closed = true;
      events.gone();
      return;
    }
    timer = setTimeout(() => {
      if (turn === 0 || !alive(process)) look(turn + 1);
      else connected().then(events.reconnected, () => look(Math.min(turn + 1, lookMs.length - 1)));
    }, lookMs[turn]).unref();
  }

  const first = await connect();
  const pid = monitorPid(first);
  const process = expected ?? { pid, start: readStartTime(pid) };
  expected = process;
  return {
    process,
    path,
    async use(work) {
      try {
        return await work(await connected());
      } catch (error) {
        if (!(error instanceof QmpError)) throw error;
        throw new ConnectError(`the VM's monitor can't be used: ${error.message}`, Code.Unavailable);
      }
    },
    close() {
      closed = true;
      clearTimeout(timer);
      qmp?.close();
    },
  };
}

function alive({ pid, start }: Process): boolean {
  try {
    return existsSync(`/proc/${pid}`) && readStartTime(pid) === start;
  } catch {
    return false;
  }
}
