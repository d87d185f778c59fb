/** What an inspector answers: the questions to one guest. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { InspectorService } from "../../proto/gen/cloudvmi/agent/v1/inspector_pb.ts";
import {
  type AddressSpace,
  GuestService,
  type ReadMemoryRequest,
  ReadTableResponseSchema,
  type SymbolSchema,
  type TranslationSchema,
  type TypeLayoutSchema,
} from "../../proto/gen/cloudvmi/v1/guest_pb.ts";
import {
  type Budget,
  type Guest,
  GuestError,
  type KernelSymbol,
  type PhysicalMemory,
  type ReadItem,
  type Space,
  type TranslationResult,
  type TypeLayout,
} from "../../vmi/index.ts";
import { createRoutes, Encoded, type Routes } from "../../wire/index.ts";
import { createAttachment, since } from "./attachment.ts";
import { encodedHeader, tableSpecs } from "./catalogue.ts";
import { encodeRows } from "./encode-rows.ts";

/** Types of one request, and how deep an object's structures are opened. */
const maxTypes = 64;
const maxDepth = 16;

/** @param image the memory is a copy, not a guest's that runs. */
export function inspectorRoutes(memory: PhysicalMemory, image = false): Routes<undefined> {
  const attachment = createAttachment(memory, image);
  const { ask } = attachment;
  return createRoutes<undefined>()
    .add(InspectorService, attachment.service)
    .add(GuestService, {
      async listTables() {
        return { tables: tableSpecs() };
      },
      async *readTable(request, { timeoutMs }) {
        const start = performance.now();
        const { table, columns, where, limit } = request;
        const query = { columns, where, limit: Number(limit) };
        const answer = ask(timeoutMs, (guest, budget) => guest.table(table, query, budget));
        const { rows, retried, incomplete, notes } = answer;
        const summary = create(ReadTableResponseSchema, {
          summary: {
            vm: attachment.vm,
            rows: BigInt(rows),
            retried,
            incomplete,
            notes: [...notes],
            microseconds: since(start),
          },
        });
        const header = encodedHeader(table, answer.columns);
        for (const bytes of encodeRows(answer.data, rows, header, toBinary(ReadTableResponseSchema, summary))) {
          yield new Encoded(bytes);
        }
      },
      async readMemory({ items }, { timeoutMs }) {
        const results = ask(timeoutMs, (guest, budget) => guest.read(items.map(readItem), budget));
        return {
          results: results.map(({ bytes, address, error }) => ({ data: bytes, address, error })),
          vm: attachment.vm,
        };
      },
      async translate({ items }, { timeoutMs }) {
        const wanted = items.map(({ space, address }) => ({ space: spaceOf(space), address }));
        const translations = ask(timeoutMs, (guest, budget) => guest.translate(wanted, budget));
        return { translations: translations.map(translation), vm: attachment.vm };
      },
      async lookupSymbols({ names, addresses }, { timeoutMs }) {
        const found = ask(timeoutMs, (guest, budget) => [
          ...guest.symbols(names, budget).map((symbol, i) => namedSymbol(names[i]!, symbol)),
          ...guest.symbolsAt(addresses, budget).map((symbol, i) => symbolBefore(addresses[i]!, symbol)),
        ]);
        return { symbols: found, vm: attachment.vm };
      },
      async lookupTypes({ names }, { timeoutMs }) {
        if (names.length > maxTypes)
          throw new ConnectError(`more than ${maxTypes} types in one request; split it`, Code.InvalidArgument);
        const types = ask(timeoutMs, (guest, budget) => names.map((name) => typeNamed(guest, name, budget)));
        return { types, vm: attachment.vm };
      },
      async readObject({ type, space, address, depth }, { timeoutMs }) {
        const options = { space: spaceOf(space), depth: depth === 0 ? undefined : Math.min(depth, maxDepth) };
        const found = ask(timeoutMs, (guest, budget) => guest.typeAt(type, address, options, budget));
        const members = found.members.map((each) => {
          const { value, symbol, error, ...member } = each;
          return { member, value, symbol, error };
        });
        return { type: typeLayout({ ...found.type, members: [] }), address: found.address, members, vm: attachment.vm };
      },
    });
}

function spaceOf(space: AddressSpace | undefined): Space {
  switch (space?.space.case) {
    case "physical":
      return "physical";
    case "kernel":
      return "kernel";
    case "pid":
      return { pid: space.space.value };
    default:
      throw new ConnectError("an item names no address space: physical, kernel or pid", Code.InvalidArgument);
  }
}

function readItem({ space, address, length, after }: ReadMemoryRequest["items"][number]): ReadItem {
  return {
    space: spaceOf(space),
    address,
    length,
    ...(after ? { after: { item: after.item, offset: after.offset } } : {}),
  };
}

function translation(result: TranslationResult): MessageInitShape<typeof TranslationSchema> {
  if (!result.mapped) return { error: result.error };
  const { gpa, pageSize, writable, user, executable } = result;
  return { physical: BigInt(gpa), pageSize: BigInt(pageSize), writable, user, executable };
}

function namedSymbol(name: string, symbol: KernelSymbol | undefined): MessageInitShape<typeof SymbolSchema> {
  if (!symbol) return { name, error: `the kernel has no symbol ${name}` };
  return { name, address: symbol.address, type: symbol.type, module: symbol.module };
}

function symbolBefore(address: bigint, symbol: KernelSymbol | undefined): MessageInitShape<typeof SymbolSchema> {
  if (!symbol) return { address, error: `no symbol at or before 0x${address.toString(16)}` };
  const { name, type, module } = symbol;
  return { name, address: symbol.address, type, module, offset: address - symbol.address };
}

function typeNamed(guest: Guest, name: string, budget: Budget): MessageInitShape<typeof TypeLayoutSchema> {
  try {
    return typeLayout(guest.type(name, budget));
  } catch (error) {
    if (error instanceof GuestError && error.kind === "bad-request") return { name, error: error.message };
    throw error;
  }
}

function typeLayout(layout: TypeLayout): MessageInitShape<typeof TypeLayoutSchema> {
  const values = layout.values.map(({ name, value }) => ({ name, value: BigInt.asIntN(64, value) }));
  return { ...layout, size: BigInt(layout.size), members: [...layout.members], values };
}
