/** The engine's tables as the public contract describes them. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type ColumnSpecSchema,
  ColumnType,
  ReadTableResponseSchema,
  type TableSpecSchema,
} from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import { type TableAnswer, tables } from "../../vmi/index.ts";

type AnswerColumn = TableAnswer["columns"][number];

export function tableSpecs(): MessageInitShape<typeof TableSpecSchema>[] {
  return tables.map(({ name, description, columns, permission, cost, examples, required, reads }) => ({
    name,
    description,
    columns: Object.values(columns).map(columnSpec),
    permission,
    cost,
    examples: [...examples],
    required: [...required],
    reads: [...reads],
  }));
}

function columnSpec({ name, kind, description, key }: AnswerColumn): MessageInitShape<typeof ColumnSpecSchema> {
  return { name, type: kind === "integer" ? ColumnType.INTEGER : ColumnType.TEXT, description, key };
}

/** More kinds of questions than this are not remembered. */
const remembered = 64;
const headers = new Map<string, Uint8Array>();

/** An encoded ReadTableResponse with the header alone. */
export function encodedHeader(table: string, columns: readonly AnswerColumn[]): Uint8Array {
  const key = `${table} ${columns.map(({ name }) => name).join()}`;
  const known = headers.get(key);
  if (known) return known;
  if (headers.size >= remembered) headers.clear();
  const header = toBinary(
    ReadTableResponseSchema,
    create(ReadTableResponseSchema, { header: columns.map(columnSpec) }),
  );
  headers.set(key, header);
  return header;
}
