import { writeFile } from "node:fs/promises";
import { Argument, type Command, Option } from "commander";
import type { GuestHandle, Space } from "../../sdk/index.ts";
import { exitCode } from "../exit-code.ts";
import { CliError, usageError } from "../failure.ts";
import { hexdump } from "../format/hexdump.ts";
import { formatAddress, formatBytes } from "../format/units.ts";
import type { GuestSource } from "../guests.ts";
import type { Io } from "../io.ts";
import { type Place, parseLength, parsePid, parsePlace, parsePlaces, parseSpace } from "../parse.ts";
import type { CommonOptions, Session } from "../session.ts";
import { groups } from "./command.ts";
import { addOneGuestCommand, type OneGuestCommand } from "./guest-command.ts";
import { streamCommand } from "./stream.ts";
import { processOf } from "./tables.ts";

/** What one item, and one batch, may ask for (see ReadItem and ReadMemoryRequest of the API). */
const itemLimit = 1 << 20;
const batchLimit = 16n << 20n;

export function addMemoryCommands(parent: Command, io: Io, source: GuestSource): void {
  addOneGuestCommand(parent, io, source, readCommand);
  addOneGuestCommand(parent, io, source, translateCommand);
  addOneGuestCommand(parent, io, source, symbolCommand);
  addOneGuestCommand(parent, io, source, registersCommand);
  addOneGuestCommand(parent, io, source, streamCommand);
}

interface ReadOptions extends CommonOptions {
  space: Space;
  output?: string;
  hex?: boolean;
  raw?: boolean;
}

const readCommand: OneGuestCommand<[Place, bigint], ReadOptions> = {
  name: "read",
  summary: "Read memory: a hexdump, or the bytes themselves.",
  description:
    "Up to 16 MiB at once; `cloudvmi stream` copies more. What can't be read ends the output, with exit code 4.",
  examples: [
    "read VM linux_banner 128",
    "read VM 0xffffffff81000000 4K --output text.bin",
    "read VM 0x7ffc0000 256 --space pid:1",
    "read VM 0x1000 4K --space physical --raw",
  ],
  group: groups.memory,
  configure(command) {
    command
      .argument("<address>", "0x… or decimal, or a kernel symbol: init_task+0x10", parsePlace)
      .addArgument(new Argument("[length]", "bytes: 256, 0x100, 4K, 1M").argParser(parseLength).default(256n, "256"))
      .option("--space <space>", "what the address means: kernel, physical or pid:N", parseSpace, "kernel")
      .option("--output <file>", "write the bytes to a file")
      .addOption(new Option("--hex", "print hexadecimal digits only").conflicts("raw"))
      .option("--raw", "write the bytes themselves to the standard output");
  },
  async run(session, guest, options, place, length) {
    const { io } = session;
    if (length > batchLimit) {
      throw usageError(
        `${formatBytes(length)} are over the limit of 16M a read: use \`cloudvmi stream --start --length\``,
      );
    }
    if (options.raw && io.out.isTerminal)
      throw usageError("raw bytes don't go to a terminal: pipe them, or use --output FILE");
    const [address = 0n] = await resolvePlaces(guest, [place], options.space);
    const items = [];
    for (let at = 0n; at < length; at += BigInt(itemLimit)) {
      const rest = length - at;
      items.push({
        space: options.space,
        address: BigInt.asUintN(64, address + at),
        length: rest < itemLimit ? Number(rest) : itemLimit,
      });
    }
    const results = await guest.readBatch(items);
    const pieces: Uint8Array[] = [];
    let failure = "";
    for (const result of results) {
      pieces.push(result.data);
      failure = result.error;
      if (failure !== "") break;
    }
    const bytes = Buffer.concat(pieces);
    if (failure !== "" && bytes.length === 0)
      throw new CliError(exitCode.guest, `${formatAddress(address)}: ${failure}`);
    await showBytes(session, options, address, bytes);
    if (failure !== "") {
      const end = formatAddress(address + BigInt(bytes.length));
      throw new CliError(exitCode.guest, `only ${bytes.length} of ${length} bytes: ${end}: ${failure}`);
    }
  },
};

async function showBytes(
  { io, printer }: Session,
  options: ReadOptions,
  address: bigint,
  bytes: Buffer,
): Promise<void> {
  if (options.output !== undefined) {
    // What is in memory is its owner's business alone.
    await writeFile(options.output, bytes, { mode: 0o600 });
    const row = { address: formatAddress(address), length: bytes.length, file: options.output };
    return printer.done(`Wrote ${bytes.length} bytes to ${options.output}.`, row);
  }
  if (options.raw) return io.out.write(bytes);
  if (printer.json)
    return printer.object({ address: formatAddress(address), length: bytes.length, data: bytes.toString("hex") });
  await printer.lines(options.hex ? [bytes.toString("hex")] : hexdump(bytes, address));
}

/** The addresses of places; all symbols together cost one round trip, and none costs nothing. */
export async function resolvePlaces(guest: GuestHandle, places: readonly Place[], space: Space): Promise<bigint[]> {
  const names = [...new Set(places.flatMap((place) => (place.kind === "symbol" ? [place.name] : [])))];
  if (names.length > 0 && space !== "kernel") {
    throw usageError(`'${names[0]}' is no address, and kernel symbols are in the kernel's space only`);
  }
  const symbols = names.length === 0 ? [] : await guest.symbols({ names });
  return places.map((place) => {
    if (place.kind === "address") return place.address;
    const symbol = symbols[names.indexOf(place.name)];
    if (symbol === undefined || symbol.error !== "") {
      throw usageError(`'${place.name}' is neither an address (0x…) nor a symbol of this kernel`);
    }
    return BigInt.asUintN(64, symbol.address + place.offset);
  });
}

const translateCommand: OneGuestCommand<[Place[]], CommonOptions & { process?: number; pid?: number }> = {
  name: "translate",
  summary: "Translate virtual addresses to physical ones.",
  description: "An address that is not mapped is shown as such; when none is mapped, the exit code is 4.",
  examples: [
    "translate VM 0xffffffff81000000",
    "translate VM init_task linux_banner",
    "translate VM 0x7ffc0000 --process 1",
  ],
  group: groups.memory,
  configure(command, kind) {
    command
      .argument("<address...>", "0x… or decimal, or kernel symbols", parsePlaces)
      .option("--process <pid>", "in the address space of this process instead of the kernel's", parsePid);
    // In local mode --pid is QEMU's.
    if (kind === "service") command.option("--pid <pid>", "the same as --process", parsePid);
  },
  async run({ printer }, guest, options, places) {
    const pid = processOf(options);
    const space: Space = pid === undefined ? "kernel" : { pid };
    const addresses = await resolvePlaces(guest, places, space);
    const items = addresses.map((address) => ({ space, address }));
    const translations = await guest.translate(items);
    const rows = translations.map((translation, at) => {
      const mapped = translation.error === "";
      return {
        virtual: formatAddress(addresses[at]!),
        physical: mapped ? formatAddress(translation.physical) : null,
        page_size: mapped ? translation.pageSize : null,
        writable: mapped ? translation.writable : null,
        user: mapped ? translation.user : null,
        executable: mapped ? translation.executable : null,
        error: translation.error || null,
      };
    });
    const shown = rows.map((row) => ({ ...row, access: row.physical === null ? null : access(row) }));
    if (printer.json) await printer.list(rows, []);
    else {
      await printer.list(shown, [
        { name: "virtual", whole: true },
        { name: "physical", whole: true },
        { name: "page_size", title: "page", align: "right", format: (value) => formatBytes(value as bigint) },
        { name: "access" },
        { name: "error" },
      ]);
    }
    if (rows.every((row) => row.error !== null)) throw new CliError(exitCode.guest, "no address is mapped");
  },
};

/** "kernel r-x" and the like. */
function access(row: { user: boolean | null; writable: boolean | null; executable: boolean | null }): string {
  return `${row.user ? "user" : "kernel"} r${row.writable ? "w" : "-"}${row.executable ? "x" : "-"}`;
}

const symbolCommand: OneGuestCommand<[Place[]], CommonOptions> = {
  name: "symbol",
  summary: "Look up kernel symbols by name, or by address.",
  description:
    "For an address: the symbol at or before it, and how far behind that it is.\n" +
    "What isn't found is said on stderr, with exit code 3; the rest is printed all the same.",
  examples: ["symbol VM init_task", "symbol VM 0xffffffff81000010 linux_banner"],
  group: groups.memory,
  configure(command) {
    command.argument("<name|address...>", "names, or addresses as 0x… or decimal", parsePlaces);
  },
  async run({ printer }, guest, _options, places) {
    const names = places.flatMap((place) => (place.kind === "symbol" ? [place.name] : []));
    const asked = places.flatMap((place) => (place.kind === "address" ? [place.address] : []));
    const found = await guest.symbols({ names, addresses: asked });
    // The answer has the names first; people get them in the order they asked.
    const [byName, byAddress] = [found.slice(0, names.length), found.slice(names.length)];
    const rows = places.map((place) => {
      const symbol = (place.kind === "symbol" ? byName.shift() : byAddress.shift())!;
      const known = symbol.error === "";
      return {
        asked: place.kind === "symbol" ? place.name : formatAddress(place.address),
        name: known ? symbol.name : null,
        address: known ? formatAddress(symbol.address) : null,
        offset: known ? symbol.offset : null,
        type: known ? symbol.type : null,
        module: symbol.module || null,
        error: symbol.error || null,
      };
    });
    await printer.list(rows, [
      { name: "asked" },
      { name: "name" },
      { name: "address", whole: true },
      { name: "offset", align: "right" },
      { name: "type" },
      { name: "module" },
      { name: "error" },
    ]);
    const missing = rows.filter((row) => row.error !== null).map((row) => row.asked);
    if (missing.length > 0) {
      const misspelt = missing.some((asked) => names.includes(asked));
      throw new CliError(
        exitCode.refused,
        misspelt
          ? `not found in this kernel: ${missing.join(", ")}: check the spelling`
          : `no symbol there, of the kernel's image or a module: ${missing.join(", ")}`,
      );
    }
  },
};

const registersCommand: OneGuestCommand<[], CommonOptions> = {
  name: "registers",
  summary: "Show the registers of every virtual CPU.",
  examples: ["registers VM", "registers VM --json"],
  group: groups.memory,
  async run({ printer }, guest) {
    const vcpus = await guest.registers();
    const rows = vcpus.map(({ index, registers }) => ({
      vcpu: index,
      ...Object.fromEntries(Object.entries(registers).map(([name, value]) => [name, formatAddress(value)])),
    }));
    if (printer.json) return printer.list(rows, []);
    const names = [...new Set(vcpus.flatMap(({ registers }) => Object.keys(registers)))];
    const columns = vcpus.map(({ index }) => `vcpu ${index}`);
    await printer.list(
      names.map((name) => ({
        register: name,
        ...Object.fromEntries(
          vcpus.map(({ registers }, at) => [
            columns[at]!,
            registers[name] === undefined ? null : formatAddress(registers[name]),
          ]),
        ),
      })),
      [{ name: "register" }, ...columns.map((name) => ({ name, whole: true }))],
    );
  },
};
