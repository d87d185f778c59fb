import { Command, Help } from "commander";
import { nearest } from "../sql/nearest.ts";
import { addAccountCommands } from "./commands/account.ts";
import { addAdminCommands } from "./commands/admin.ts";
import { addChecksCommand } from "./commands/checks.ts";
import { addCommand } from "./commands/command.ts";
import { addFleetCommands } from "./commands/fleet.ts";
import { addLocalCommands } from "./commands/local.ts";
import { addMemoryCommands } from "./commands/memory.ts";
import { addPauseCommands } from "./commands/pause.ts";
import { addScanCommand } from "./commands/scan.ts";
import { addServeCommands } from "./commands/serve.ts";
import { addSqlCommand, serviceSql } from "./commands/sql.ts";
import { addTableCommands } from "./commands/tables.ts";
import { addTypeCommand } from "./commands/types.ts";
import { usageError } from "./failure.ts";
import { sanitise } from "./format/sanitise.ts";
import { type Io, usesColour } from "./io.ts";
import { serviceGuests } from "./service-guests.ts";
import { version } from "./version.ts";

const closing = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not allowed or not found, 4 the guest can't be read or understood,
5 checks found something.
Environment: CLOUDVMI_URL, CLOUDVMI_TOKEN and CLOUDVMI_CA (a file) instead of a login; CLOUDVMI_CONTEXT; NO_COLOR.

Start here:
  $ cloudvmi up                                      on a host with virtual machines
  $ cloudvmi login https://vmi.example.com:7443      with a token from your operator
  $ cloudvmi ps                                      processes of all your virtual machines
  $ cloudvmi local ps --qmp /run/web1.qmp            without any service
  $ cloudvmi help COMMAND                            with examples`;

/** The whole command tree. Commander's own output goes through `io` as well, and it throws instead of exiting. */
export function buildProgram(io: Io): Command {
  const program = new Command("cloudvmi")
    .description("See what really runs in virtual machines, from outside them.")
    .version(version, "--version", "print the version")
    .option("--json", "print JSON: one array of rows, or one object")
    .option("--verbose", "print where an error came from, and what reading a table took")
    .option("--context <name>", "use this stored service (see login)")
    .helpOption("-h, --help", "show this help")
    .addHelpText("after", closing)
    .showSuggestionAfterError();

  addAccountCommands(program, io);
  addFleetCommands(program, io);
  addTableCommands(program, io, serviceGuests);
  addChecksCommand(program, io, serviceGuests);
  addSqlCommand(program, io, serviceSql);
  addMemoryCommands(program, io, serviceGuests);
  addTypeCommand(program, io, serviceGuests);
  addScanCommand(program, io, serviceGuests);
  addPauseCommands(program, io);
  addLocalCommands(program, io);
  addServeCommands(program, io);
  addAdminCommands(program, io);
  program.helpCommand(false);
  addCommand(program, "help", { summary: "Show the help of a command.", examples: ["help ps", "help token create"] })
    .argument("[command...]")
    .action((words: string[]) => named(program, words).outputHelp());
  for (const command of everyCommand(program)) configure(command, io);
  return program;
}

/** The command of these words: ["token", "create"]. */
function named(program: Command, words: readonly string[]): Command {
  let found = program;
  for (const word of words) {
    const next = found.commands.find((command) => command.name() === word);
    if (next === undefined) {
      const path = commandPath(found);
      const meant = nearest(
        word,
        found.commands.map((command) => command.name()),
      );
      const advice = meant === undefined ? `see \`${path} --help\`` : `did you mean '${meant}'?`;
      throw usageError(`${path} has no command '${word}': ${advice}`);
    }
    found = next;
  }
  return found;
}

function* everyCommand(command: Command): Generator<Command> {
  yield command;
  for (const child of command.commands) yield* everyCommand(child);
}

function configure(command: Command, io: Io): void {
  command
    .exitOverride()
    .configureHelp({
      showGlobalOptions: true,
      subcommandTerm,
      ...(usesColour(io.out, io.env) ? { styleTitle: bold } : {}),
    })
    .configureOutput({
      writeOut: (text) => void io.out.write(text),
      writeErr: (text) => void io.err.write(text),
      outputError: (text, write) => write(`cloudvmi: ${usageLine(text, command)}\n`),
      getOutHelpWidth: () => (io.out.isTerminal ? io.out.columns : 110),
      getErrHelpWidth: () => (io.err.isTerminal ? io.err.columns : 110),
      getOutHasColors: () => usesColour(io.out, io.env),
      getErrHasColors: () => usesColour(io.err, io.env),
    });
}

/** Commander's complaint as one line that ends with what to do next. */
function usageLine(text: string, command: Command): string {
  const [first = "", suggestion] = text.trim().split("\n");
  const path = commandPath(command);
  const next = suggestion?.replace(/^\((.*)\)$/, "$1").replace(/^Did/, "did") ?? `see \`${path} --help\``;
  return sanitise(`${first.replace(/^error: /, "").replace(/\.$/, "")}: ${next}`);
}

function commandPath(command: Command): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

const bold = (text: string) => `\x1b[1m${text}\x1b[22m`;

/** Name and arguments only: options would fill the list. */
function subcommandTerm(command: Command): string {
  const helper = new Help();
  const words = command.registeredArguments
    .map((argument) => helper.argumentTerm(argument))
    .map((term, at) => {
      const { required, variadic } = command.registeredArguments[at]!;
      const name = variadic ? `${term}…` : term;
      return required ? name.toUpperCase() : `[${name}]`;
    });
  return [command.name(), ...words].join(" ");
}
