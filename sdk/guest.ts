// One guest, asked over any transport that leads to a GuestService.
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  GuestService,
  type Symbol as GuestSymbol,
  type ObjectMember,
  type ReadResult,
  type ScanSummary,
  type StreamMemoryResponse,
  type TableSpec,
  type Translation,
  type TypeLayout,
  type Vcpu,
  type VmId,
} from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type RuleFile, type ScanMatch, type ScanProgress, ScanTarget } from "../proto/gen/cloudvmi/v1/scan_pb.ts";
import { checkAddress, formatAddress } from "./address.ts";
import { isWire, streamMessages } from "./calls.ts";
import { inconsistent } from "./cells.ts";
import { createReading, type TableReading } from "./reading.ts";
import { type Batch, createRowDecoder } from "./rows.ts";

/** Where an address is to be understood: guest physical, the kernel's, or a process's by its pid. */
export type Space = "physical" | "kernel" | { readonly pid: number };

export interface TableQuery {
  /** Every column by default. Only what is asked for is read from the guest. */
  readonly columns?: readonly string[] | undefined;
  /** Rows whose columns have one of the values. */
  readonly where?: Readonly<Record<string, string | number | readonly (string | number)[]>> | undefined;
  /** At most so many rows; 0 or undefined: all. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One read of a batch. */
export interface BatchItem {
  readonly space: Space;
  /** The address; with `after`, what is added to the pointer found there. */
  readonly address: bigint;
  /** In bytes, up to 1 MiB. */
  readonly length: number;
  /** Takes the 64-bit pointer at `offset` of the result of an earlier item. */
  readonly after?: { readonly item: number; readonly offset: number };
}

/** What a stretch of guest physical memory holds; lengths in bytes. */
export type MemoryPiece =
  | { readonly address: bigint; readonly data: Uint8Array }
  | { readonly address: bigint; readonly zeros: bigint }
  | { readonly address: bigint; readonly absent: bigint };

/** A live object of the kernel's: its type (without members), and its members with their values. */
export interface GuestObject {
  readonly type: TypeLayout;
  readonly address: bigint;
  readonly members: readonly ObjectMember[];
}

/** What a scan looks through: processes' memory, the kernel's, files as far as they are in memory, or all of RAM. */
export type ScanTargetName = "processes" | "kernel" | "page-cache" | "physical";

export interface ScanQuery {
  /** YARA rules; each file is a namespace, and may not include others. Up to 1.5 MiB together. */
  readonly rules: readonly Pick<RuleFile, "name" | "source">[];
  /** By default "processes". */
  readonly target?: ScanTargetName | undefined;
  /** Of processes only these. */
  readonly pids?: readonly number[] | undefined;
  /** Matches after which the scan stops: 1000 unless given, at most 100,000. */
  readonly limit?: number | undefined;
  /** Bytes after which it stops; by default none. */
  readonly maxBytes?: number | undefined;
  /** Milliseconds after which it stops: 60,000 unless given, at most an hour. */
  readonly timeLimitMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a scan tells, as it goes: what it found, how far it is, and, last of all, how it ended. */
export interface ScanUpdate {
  readonly matches: readonly ScanMatch[];
  readonly progress?: ScanProgress | undefined;
  readonly summary?: ScanSummary | undefined;
}

/** The VM stands still until it is resumed, by disposal too, or until the lease ends. */
export interface PauseLease extends AsyncDisposable {
  /** The lease's secret: what `resume` needs, also from another program. */
  readonly lease: string;
  /** When the VM runs on by itself. */
  readonly expires: Date;
  /** Gives the lease back. False while another lease, or the operator, still holds the VM. */
  resume(): Promise<boolean>;
}

/** Every method fails with a ConnectError: NotFound, PermissionDenied, FailedPrecondition when the guest can't be read, … */
export interface GuestHandle {
  /** Which VM this is; an empty incarnation means whichever runs. */
  readonly id: VmId;
  /** The tables there are, with the meaning of their columns. */
  tables(): Promise<TableSpec[]>;
  /** Asks a table; nothing is sent before the rows are looked for. */
  table(name: string, query?: TableQuery): TableReading;
  /** Exactly `length` bytes, up to 64 MiB. Fails with FailedPrecondition when some can't be read; `readBatch` gives what can. */
  read(space: Space, address: bigint, length: number): Promise<Uint8Array>;
  /** Up to 4096 reads in one round trip, 16 MiB together. One result for each, with its own error. */
  readBatch(items: readonly BatchItem[]): Promise<ReadResult[]>;
  /** Virtual to physical addresses; one result for each, with its own error. */
  translate(items: readonly { readonly space: Space; readonly address: bigint }[]): Promise<Translation[]>;
  /** Kernel symbols: first those named, then those at or before the addresses; each with its own error. */
  symbols(query: {
    readonly names?: readonly string[];
    readonly addresses?: readonly bigint[];
  }): Promise<GuestSymbol[]>;
  /** Types of the kernel by name (`task_struct`, `enum pid_type`, `pid_t`), up to 64; each with its own error. */
  types(names: readonly string[]): Promise<TypeLayout[]>;
  /** The object of such a type at an address; structures within structures are opened to `depth` (3). */
  object(
    type: string,
    address: bigint,
    options?: { readonly space?: Space; readonly depth?: number },
  ): Promise<GuestObject>;
  /** Looks through memory with YARA rules. Fails with InvalidArgument, and the place in its file, for a rule that is wrong. */
  scan(query: ScanQuery): AsyncIterable<ScanUpdate>;
  /** The vCPUs' registers, where the hypervisor tells them. */
  registers(): Promise<Vcpu[]>;
  /** Stops the VM for 1 to 300 seconds at most. */
  pause(seconds: number): Promise<PauseLease>;
  /** Gives back a lease whose secret has been kept. */
  resume(lease: string): Promise<boolean>;
  /**
   * Guest physical memory from `start`, in order; without a length to the end of RAM. With `reuse`, a piece's data is good
   * only until the next piece is asked for: twice as fast, for those who write it away at once.
   */
  streamMemory(range?: {
    start?: bigint;
    length?: bigint;
    signal?: AbortSignal;
    reuse?: boolean;
  }): AsyncIterable<MemoryPiece>;
}

const scanTargets = {
  processes: ScanTarget.PROCESSES,
  kernel: ScanTarget.KERNEL,
  "page-cache": ScanTarget.PAGE_CACHE,
  physical: ScanTarget.PHYSICAL,
} as const satisfies Record<ScanTargetName, ScanTarget>;

const ITEM_BYTES = 1 << 20;
const BATCH_BYTES = 16 << 20;
const READ_BYTES = 64 << 20;

/** A guest reached by `transport`: the service's, an agent's or straight an inspector's. */
export function guestOver(transport: Transport, vm: VmId): GuestHandle {
  const client = createClient(GuestService, transport);

  async function readBatch(items: readonly BatchItem[]): Promise<ReadResult[]> {
    const asked = items.map(({ space, address, length, after }) => ({
      space: spaceOf(space),
      // With `after` it is an offset, which may be negative.
      address: after === undefined ? checkAddress(address) : BigInt.asUintN(64, address),
      length: checkLength(length),
      after,
    }));
    const { results } = await client.readMemory({ vm, items: asked });
    checkCount(results.length, items.length);
    for (const [at, result] of results.entries()) {
      if (result.data.length > items[at]!.length) throw inconsistent("more bytes than were asked for");
      if (result.error === "" && result.data.length < items[at]!.length) throw inconsistent("bytes are missing");
    }
    return results;
  }

  async function read(space: Space, address: bigint, length: number): Promise<Uint8Array> {
    checkLength(length);
    checkAddress(address);
    if (length > READ_BYTES) {
      throw new ConnectError(`at most ${READ_BYTES} bytes at once: use streamMemory for more`, Code.InvalidArgument);
    }
    const bytes = new Uint8Array(length);
    for (let batch = 0; batch < length; batch += BATCH_BYTES) {
      const items: BatchItem[] = [];
      for (let at = batch; at < Math.min(batch + BATCH_BYTES, length); at += ITEM_BYTES) {
        items.push({ space, address: address + BigInt(at), length: Math.min(ITEM_BYTES, length - at) });
      }
      const results = await readBatch(items);
      for (const [index, { data, error }] of results.entries()) {
        const at = batch + index * ITEM_BYTES;
        if (error !== "") {
          const where = formatAddress(address + BigInt(at + data.length));
          throw new ConnectError(`can't read ${where}: ${error}`, Code.FailedPrecondition);
        }
        bytes.set(data, at);
      }
    }
    return bytes;
  }

  function table(name: string, query: TableQuery = {}): TableReading {
    const where = Object.entries(query.where ?? {}).map(([column, values]) => ({
      column,
      values: (Array.isArray(values) ? values : [values]).map(String),
    }));
    const limit = query.limit ?? 0;
    const request = { vm, table: name, columns: [...(query.columns ?? [])], where, limit: BigInt(checkLength(limit)) };
    const decoder = createRowDecoder();
    const method = GuestService.method.readTable;
    async function* batches(): AsyncGenerator<Batch> {
      if (isWire(transport)) {
        const answer = transport.streamEncoded(method, request, { signal: query.signal });
        for await (const bytes of answer) yield decoder.bytes(bytes);
      } else {
        for await (const message of streamMessages(transport, method, request, query.signal))
          yield decoder.message(message);
      }
    }
    return createReading(decoder, limit, batches);
  }

  async function resume(lease: string): Promise<boolean> {
    return (await client.resume({ vm, lease })).running;
  }

  return {
    id: vm,
    table,
    read,
    readBatch,
    resume,
    async tables() {
      return (await client.listTables({ vm })).tables;
    },
    async translate(items) {
      const asked = items.map(({ space, address }) => ({ space: spaceOf(space), address: checkAddress(address) }));
      const { translations } = await client.translate({ vm, items: asked });
      checkCount(translations.length, items.length);
      return translations;
    },
    async symbols({ names = [], addresses = [] }) {
      const request = { vm, names: [...names], addresses: addresses.map(checkAddress) };
      const { symbols } = await client.lookupSymbols(request);
      checkCount(symbols.length, names.length + addresses.length);
      return symbols;
    },
    async types(names) {
      const { types } = await client.lookupTypes({ vm, names: [...names] });
      checkCount(types.length, names.length);
      return types;
    },
    async object(type, address, { space = "kernel", depth = 0 } = {}) {
      const request = { vm, type, space: spaceOf(space), address: checkAddress(address), depth: checkLength(depth) };
      const answer = await client.readObject(request);
      if (answer.type === undefined) throw inconsistent("an object without a type");
      return { type: answer.type, address: answer.address, members: answer.members };
    },
    async *scan({ rules, target = "processes", pids = [], limit = 0, maxBytes = 0, timeLimitMs = 0, signal }) {
      const request = {
        vm,
        rules: rules.map(({ name, source }) => ({ name, source })),
        target: scanTargets[target],
        pids: [...pids],
        maxMatches: checkLength(limit),
        maxBytes: BigInt(checkLength(maxBytes)),
        timeLimitMs: checkLength(timeLimitMs),
      };
      let summarised = false;
      for await (const message of streamMessages(transport, GuestService.method.scan, request, signal)) {
        if (summarised) throw inconsistent("more came after the summary");
        summarised = message.summary !== undefined;
        yield message;
      }
      if (!summarised) throw inconsistent("it ended without its summary");
    },
    async registers() {
      return (await client.getRegisters({ vm })).vcpus;
    },
    async pause(seconds) {
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > 300) {
        throw new ConnectError("a pause takes from 1 to 300 whole seconds", Code.InvalidArgument);
      }
      const { lease, expiresMs } = await client.pause({ vm, leaseSeconds: seconds });
      let resumed: Promise<boolean> | undefined;
      const once = (): Promise<boolean> => {
        resumed ??= resume(lease).catch((error: unknown) => {
          // Whoever could not reach the service may try again.
          resumed = undefined;
          throw error;
        });
        return resumed;
      };
      return {
        lease,
        expires: new Date(Number(expiresMs)),
        resume: once,
        async [Symbol.asyncDispose]() {
          await once().catch((error: unknown) => {
            // A lease that has ended by itself has nothing to give back.
            if (ConnectError.from(error).code !== Code.NotFound) throw error;
          });
        },
      };
    },
    async *streamMemory({ start = 0n, length = 0n, signal, reuse = false } = {}) {
      const request = { vm, start: checkAddress(start), length: checkAddress(length) };
      let next = start;
      for await (const message of streamMessages(transport, GuestService.method.streamMemory, request, signal, reuse)) {
        const size = BigInt(message.data.length) + message.zeros + message.absent;
        const inRange = message.address >= next && (length === 0n || message.address + size <= start + length);
        if (!inRange) throw inconsistent("memory that was not asked for, or out of order");
        next = message.address + size;
        if (size > 0n) yield pieceOf(message);
      }
    },
  };
}

function pieceOf({ address, data, zeros, absent }: StreamMemoryResponse): MemoryPiece {
  const kinds = Number(data.length > 0) + Number(zeros > 0n) + Number(absent > 0n);
  if (kinds !== 1) throw inconsistent("a piece of memory of two kinds");
  if (data.length > 0) return { address, data };
  return zeros > 0n ? { address, zeros } : { address, absent };
}

function spaceOf(space: Space) {
  if (space === "physical") return { space: { case: "physical", value: true } } as const;
  if (space === "kernel") return { space: { case: "kernel", value: true } } as const;
  if (!Number.isInteger(space.pid) || space.pid < 1 || space.pid > 0x7fffffff) {
    throw new ConnectError(`${space.pid} is not the number of a process`, Code.InvalidArgument);
  }
  return { space: { case: "pid", value: space.pid } } as const;
}

function checkLength(length: number): number {
  if (Number.isSafeInteger(length) && length >= 0) return length;
  throw new ConnectError(`${length} is not a length`, Code.InvalidArgument);
}

function checkCount(count: number, expected: number): void {
  if (count !== expected) throw inconsistent(`${count} results for ${expected} questions`);
}
