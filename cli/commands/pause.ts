import type { Command } from "commander";
import { formatTime } from "../format/units.ts";
import type { Io } from "../io.ts";
import { parseLeaseSeconds } from "../parse.ts";
import { serviceGuests } from "../service-guests.ts";
import type { CommonOptions } from "../session.ts";
import { groups } from "./command.ts";
import { addOneGuestCommand, type OneGuestCommand } from "./guest-command.ts";

export function addPauseCommands(program: Command, io: Io): void {
  addOneGuestCommand(program, io, serviceGuests, pauseCommand);
  addOneGuestCommand(program, io, serviceGuests, resumeCommand);
}

const pauseCommand: OneGuestCommand<[], CommonOptions & { seconds: number }> = {
  name: "pause",
  summary: "Stop a VM's virtual CPUs for a while.",
  description: "A lease bounds it: when it ends the VM runs on by itself, whatever became of you.",
  examples: ["pause VM --seconds 60", "pause VM --json"],
  group: groups.memory,
  configure(command) {
    command.option("--seconds <seconds>", "length of the lease, 1 to 300", parseLeaseSeconds, 30);
  },
  async run({ printer }, guest, { seconds }) {
    const lease = await guest.pause(seconds);
    const expires = lease.expires.getTime();
    await printer.done(
      `Paused until ${formatTime(expires)}. Sooner: \`cloudvmi resume ${guest.called} --lease ${lease.lease}\``,
      {
        lease: lease.lease,
        expires_ms: expires,
      },
    );
  },
};

const resumeCommand: OneGuestCommand<[], CommonOptions & { lease: string }> = {
  name: "resume",
  summary: "End a pause.",
  examples: ["resume VM --lease 5f0c9c4e"],
  group: groups.memory,
  configure(command) {
    command.requiredOption("--lease <id>", "from `cloudvmi pause`");
  },
  async run({ printer }, guest, { lease }) {
    const running = await guest.resume(lease);
    await printer.done(
      running ? "Running." : "This lease is ended; the VM stays paused while another one, or the operator, holds it.",
      {
        running,
      },
    );
  },
};
