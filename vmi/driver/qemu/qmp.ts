/**
 * A client of QEMU's machine protocol over a unix socket.
 * Source: docs/interop/qmp-spec.rst of QEMU.
 */
import { connect, type Socket } from "node:net";

/** Why a monitor could not be used. `kind` is closed; `message` is one line for people. */
export class QmpError extends Error {
  override readonly name = "QmpError";
  readonly kind: "unreachable" | "not-qmp" | "busy" | "closed" | "timeout" | "refused";
  constructor(kind: QmpError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
  readonly command: string;
}

/**
 * Memory that a message may take before it is complete. `info registers -a` is the longest: 7 KiB for each vCPU with
 * AVX-512, of which KVM has 1024 unless it is built for more; `info mtree -f` of a large guest is about 100 KiB.
 */
const maxMessage = 8 * 1024 * 1024;
/** What a text takes beside its characters: without it, lines of one character would take many times what is counted. */
const textOverhead = 32;

/** One connection to a monitor. QEMU serves one client per monitor socket at a time. */
export class Qmp implements Disposable {
  /** Settles when the connection has ended, with the reason. Never rejects. */
  readonly closed: Promise<QmpError>;
  readonly path: string;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #nextId = 1;
  /** What has come of an unfinished line, as it came. */
  #pieces: string[] = [];
  #piecesSize = 0;
  /** Lines of an unfinished message. */
  #lines: string[] = [];
  #linesSize = 0;
  #end!: (reason: QmpError) => void;
  #ended: QmpError | undefined;
  #greet!: { resolve: () => void; reject: (error: QmpError) => void };
  #greeted = false;

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /**
   * Connects and negotiates capabilities.
   * @param greetingMs how long the greeting may take: a monitor that another client holds accepts and stays silent.
   * @throws QmpError
   */
  static async connect(path: string, greetingMs = 3000): Promise<Qmp> {
    const socket = connect({ path });
    socket.setEncoding("utf8");
    const qmp = new Qmp(path, socket);
    await qmp.#open(greetingMs);
    try {
      await qmp.execute("qmp_capabilities");
    } catch (error) {
      qmp.close();
      throw error;
    }
    return qmp;
  }

  #open(greetingMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () =>
          this.#fail(
            new QmpError(
              "busy",
              `${this.path}: no greeting: busy (another client holds this monitor), or not a QMP socket`,
            ),
          ),
        greetingMs,
      );
      const settle = (act: () => void) => {
        clearTimeout(timer);
        act();
      };
      this.#greet = { resolve: () => settle(resolve), reject: (error) => settle(() => reject(error)) };
      this.#socket.on("data", (text: string) => this.#receive(text));
      this.#socket.on("error", (error: NodeJS.ErrnoException) =>
        this.#fail(new QmpError(this.#greeted ? "closed" : "unreachable", `${this.path}: ${explainConnect(error)}`)),
      );
      this.#socket.on("close", () => this.#fail(new QmpError("closed", `${this.path}: QEMU closed the monitor`)));
    });
  }

  /** The monitor's descriptor, for asking the kernel who listens. Undefined once closed. */
  get fd(): number | undefined {
    const handle: unknown = Reflect.get(this.#socket, "_handle");
    const fd: unknown = handle && typeof handle === "object" ? Reflect.get(handle, "fd") : undefined;
    return typeof fd === "number" && fd >= 0 ? fd : undefined;
  }

  /** Calls `listener` for every asynchronous event from now on; returns a function that stops it. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Runs a command. @throws QmpError `refused` with QEMU's own text when QEMU answers with an error. */
  execute(command: string, args?: Record<string, unknown>, timeoutMs = 10_000): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new QmpError("timeout", `${this.path}: QEMU did not answer ${command} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer, command });
      this.#socket.write(`${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}), id })}\n`);
    });
  }

  /** Runs a command of the human monitor and returns its text. @throws QmpError */
  async hmp(line: string, timeoutMs?: number): Promise<string> {
    const text = await this.execute("human-monitor-command", { "command-line": line }, timeoutMs);
    if (typeof text !== "string") throw new QmpError("refused", `${this.path}: QEMU answered "${line}" without text`);
    return text;
  }

  close(): void {
    this.#fail(new QmpError("closed", `${this.path}: the monitor connection was closed`));
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #fail(reason: QmpError): void {
    if (this.#ended) return;
    this.#ended = reason;
    this.#greet.reject(reason);
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(reason);
    }
    this.#waiting.clear();
    this.#socket.destroy();
    this.#end(reason);
  }

  #receive(text: string): void {
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0 && !this.#ended; end = text.indexOf("\n", start)) {
      const line = this.#pieces.join("") + text.slice(start, end);
      this.#pieces = [];
      this.#piecesSize = 0;
      this.#line(line.trimEnd());
      start = end + 1;
    }
    if (start < text.length) {
      this.#pieces.push(text.slice(start));
      this.#piecesSize += text.length - start + textOverhead;
    }
    if (this.#piecesSize + this.#linesSize > maxMessage) {
      this.#fail(new QmpError("not-qmp", `${this.path}: not a QMP socket (a message over ${maxMessage >> 20} MiB)`));
    }
    // A service that speaks first but not in lines would otherwise look busy.
    if (!this.#greeted && this.#lines.length === 0 && this.#pieces[0]?.startsWith("{") === false) this.#notQmp();
  }

  /** A message is a line; a monitor with pretty=on indents it over several, the last of which is "}". */
  #line(line: string): void {
    if (line === "" && this.#lines.length === 0) return;
    this.#lines.push(line);
    this.#linesSize += line.length + textOverhead;
    if (this.#lines.length === 1 ? line === "{" : line !== "}") return;
    const text = this.#lines.join("\n");
    this.#lines = [];
    this.#linesSize = 0;
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      this.#notQmp();
      return;
    }
    if (!isRecord(message)) this.#notQmp();
    else this.#message(message);
  }

  #notQmp(): void {
    this.#fail(new QmpError("not-qmp", `${this.path}: not a QMP socket`));
  }

  #message(message: Record<string, unknown>): void {
    if (!this.#greeted) {
      if (!("QMP" in message)) {
        this.#notQmp();
        return;
      }
      this.#greeted = true;
      this.#greet.resolve();
      return;
    }
    if (typeof message.event === "string") {
      const event: QmpEvent = { event: message.event, data: isRecord(message.data) ? message.data : {} };
      for (const listener of this.#listeners) listener(event);
      return;
    }
    const id = typeof message.id === "number" ? message.id : -1;
    const waiting = this.#waiting.get(id);
    if (!waiting) return; // an answer that came after its timeout
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if ("return" in message) {
      waiting.resolve(message.return);
    } else {
      const text = isRecord(message.error) ? String(message.error.desc) : "an unknown error";
      waiting.reject(new QmpError("refused", `${this.path}: QEMU refused ${waiting.command}: ${text}`));
    }
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function explainConnect(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
      return "no such socket: is the VM running?";
    case "ECONNREFUSED":
      return "nobody listens there (not a socket, or left over from a VM that has ended)";
    case "EACCES":
    case "EPERM":
      return "permission denied: run as the user of the VM or as root";
    default:
      return error.message;
  }
}
