// One reading of a table: a lazy stream of rows with its header and summary.
import { Code, ConnectError } from "@connectrpc/connect";
import type { ColumnSpec, ReadSummary } from "../proto/gen/cloudvmi/v1/guest_pb.ts";
import { inconsistent } from "./cells.ts";
import type { Batch, Row, RowDecoder } from "./rows.ts";

/** The rows of one question, which is asked when they are first looked for. They can be read once. */
export interface TableReading extends AsyncIterable<Row> {
  /** Every row at once. */
  all(): Promise<Row[]>;
  /** The columns of the rows, in order. */
  header(): Promise<ColumnSpec[]>;
  /** How the answer came about: settles when the last row has been read. */
  readonly summary: Promise<ReadSummary>;
}

/** Rows that `all` gathers at most. */
const MOST_AT_ONCE = 10_000_000;

/** Every row at once. Throws ResourceExhausted for more than can be held. */
export async function gather<T>(batches: AsyncIterable<readonly T[]>, most = MOST_AT_ONCE): Promise<T[]> {
  const rows: T[] = [];
  for await (const batch of batches) {
    // Not push(...batch): a batch may be longer than an argument list.
    for (const row of batch) rows.push(row);
    if (rows.length > most) {
      throw new ConnectError("too many rows to hold at once: read them one by one", Code.ResourceExhausted);
    }
  }
  return rows;
}

/** `limit`: of the question, 0 for none. An answer beyond it is refused: whoever sends it is broken or means harm. */
export function createReading(decoder: RowDecoder, limit: number, open: () => AsyncIterable<Batch>): TableReading {
  const { promise: summary, resolve, reject } = Promise.withResolvers<ReadSummary>();
  // Those who don't ask for the summary learn of failures from the rows.
  summary.catch(() => undefined);
  let batches: AsyncIterator<Batch> | undefined;
  let first: Promise<IteratorResult<Batch>> | undefined;
  let read = false;
  let summarised = false;
  let count = 0;

  function start(): Promise<IteratorResult<Batch>> {
    if (first === undefined) {
      batches = open()[Symbol.asyncIterator]();
      first = batches.next();
    }
    return first;
  }

  async function* rest(): AsyncGenerator<Row[]> {
    if (read)
      throw new ConnectError("these rows have been read already: ask for the table again", Code.FailedPrecondition);
    read = true;
    try {
      let step = await start();
      while (!step.done) {
        if (summarised) throw inconsistent("more came after the summary");
        count += step.value.rows.length;
        if (limit > 0 && count > limit) throw inconsistent("more rows than the limit");
        if (step.value.summary !== undefined) {
          summarised = true;
          resolve(step.value.summary);
        }
        if (step.value.rows.length > 0) yield step.value.rows;
        step = await batches!.next();
      }
      if (!summarised) throw inconsistent("it ended without its summary");
    } catch (error) {
      reject(error);
      throw error;
    } finally {
      reject(new ConnectError("the rows were not read to their end", Code.Canceled));
      await batches?.return?.();
    }
  }

  return {
    summary,
    async header() {
      const step = await start();
      if (decoder.header === undefined || (step.done && decoder.header.length === 0))
        throw inconsistent("it has no header");
      return [...decoder.header];
    },
    all: () => gather(rest()),
    async *[Symbol.asyncIterator]() {
      for await (const batch of rest()) yield* batch;
    },
  };
}
