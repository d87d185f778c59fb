import type { Command } from "commander";

/** Headings of `cloudvmi --help`, in the order they are shown. */
export const groups = {
  account: "Your account:",
  fleet: "Your virtual machines:",
  inside: "What runs in them:",
  memory: "Memory and CPUs:",
  local: "Without a service:",
  operate: "Operating the service:",
} as const;

export interface CommandText {
  summary: string;
  /** More than the summary, for the command's own help. */
  description?: string;
  /** What its group does when no command of the group is named. */
  isDefault?: boolean;
  /** Whole command lines, without `cloudvmi`. */
  examples: readonly string[];
}

/** A command with its help, below `parent`. Arguments and options are the caller's to add. */
export function addCommand(parent: Command, name: string, text: CommandText, group?: string): Command {
  const command = parent.command(name, { isDefault: text.isDefault }).summary(text.summary);
  command.description(text.description === undefined ? text.summary : `${text.summary}\n\n${text.description}`);
  if (text.examples.length > 0) {
    command.addHelpText("after", `\nExamples:\n${text.examples.map((line) => `  $ cloudvmi ${line}`).join("\n")}`);
  }
  if (group !== undefined) command.helpGroup(group);
  return command;
}

/** A command that only holds others. */
export function addGroup(parent: Command, name: string, summary: string, group?: string): Command {
  const command = parent.command(name).summary(summary).description(summary);
  if (group !== undefined) command.helpGroup(group);
  return command;
}
