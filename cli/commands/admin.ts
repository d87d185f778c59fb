import type { Command } from "commander";
import type { CloudVmi } from "../../sdk/index.ts";
import { exitCode } from "../exit-code.ts";
import { CliError } from "../failure.ts";
import { formatTime } from "../format/units.ts";
import type { Io } from "../io.ts";
import { parseLifetime, parseLimit } from "../parse.ts";
import { action, type CommonOptions, type Session } from "../session.ts";
import { printNewToken, tokenColumns, tokenRow } from "./account.ts";
import { addAuditCommands } from "./audit.ts";
import { addCertificatesCommand } from "./certificates.ts";
import { addCommand, addGroup, groups } from "./command.ts";
import { vmColumns, vmRow } from "./fleet.ts";

const time = (value: unknown) => formatTime(value as bigint);

export function addAdminCommands(program: Command, io: Io): void {
  const admin = addGroup(
    program,
    "admin",
    "Projects, users, ownership, hosts and the audit trail; for operators.",
    groups.operate,
  );
  addProjectCommands(admin, io);
  addUserCommands(admin, io);
  addMemberCommands(admin, io);
  addUserTokenCommands(admin, io);
  addOwnerCommands(admin, io);
  addAgentCommands(admin, io);
  addVmCommands(admin, io);
  addAuditCommands(admin, io);
  addCertificatesCommand(admin, io);
}

function addProjectCommands(admin: Command, io: Io): void {
  const project = addGroup(admin, "project", "Projects own virtual machines, and have members.");
  addCommand(project, "create", {
    summary: "Create a project.",
    examples: ['admin project create shop --description "the web shop"'],
  })
    .argument("<name>")
    .option("--description <text>", "what it is", "")
    .action(
      action(io, async (session: Session, options: { description: string }, name: string) => {
        const service = await session.service();
        await service.admin.createProject({ name, description: options.description });
        await session.printer.done(
          `Project ${name} exists. Give it VMs with \`cloudvmi admin owner set VM ${name}\`, and members with \`cloudvmi admin member set USER ${name} ROLE\`.`,
          { name, description: options.description },
        );
      }),
    );
  addCommand(project, "list", { summary: "List all projects.", examples: ["admin project list"] }).action(
    action(io, async (session: Session) => {
      const { projects } = await (await session.service()).admin.listProjects({});
      await session.printer.list(
        projects.map(({ name, description, createdMs }) => ({ name, description, created_ms: createdMs })),
        [{ name: "name" }, { name: "created_ms", title: "created", format: time }, { name: "description" }],
      );
    }),
  );
}

function addUserCommands(admin: Command, io: Io): void {
  const user = addGroup(admin, "user", "People and programs that hold tokens.");
  addCommand(user, "create", {
    summary: "Create a user; a token comes from `admin token create`.",
    examples: ["admin user create alice", "admin user create bob --operator"],
  })
    .argument("<name>")
    .option("--operator", "may use the admin commands")
    .action(
      action(io, async (session: Session, options: { operator?: boolean }, name: string) => {
        const service = await session.service();
        const operator = options.operator === true;
        await service.admin.createUser({ name, operator });
        await session.printer.done(`User ${name} exists. A token: \`cloudvmi admin token create ${name}\`.`, {
          name,
          operator,
        });
      }),
    );
  addCommand(user, "list", { summary: "List all users.", examples: ["admin user list"] }).action(
    action(io, async (session: Session) => {
      const { users } = await (await session.service()).admin.listUsers({});
      const rows = users.map(({ name, operator, memberships, createdMs }) => ({
        name,
        operator,
        memberships: memberships.map(({ project, role }) => ({ project, role })),
        created_ms: createdMs,
      }));
      await session.printer.list(rows, [
        { name: "name" },
        { name: "operator", format: (value) => (value === true ? "yes" : "no") },
        { name: "created_ms", title: "created", format: time },
        {
          name: "memberships",
          format: (value) =>
            (value as { project: string; role: string }[]).map((m) => `${m.role} of ${m.project}`).join(", "),
        },
      ]);
    }),
  );
}

function addMemberCommands(admin: Command, io: Io): void {
  const member = addGroup(admin, "member", "Who may do what in a project.");
  addCommand(member, "set", {
    summary: "Give a user a role in a project, or take it away.",
    description:
      "viewer: list VMs and read tables. analyst: also memory, translations, symbols and registers.\n" +
      "responder: also pause and resume. owner: at present as responder. none: no role any more.",
    examples: ["admin member set alice shop analyst", "admin member set alice shop none"],
  })
    .argument("<user>")
    .argument("<project>")
    .argument("<role>", "viewer, analyst, responder, owner or none")
    .action(
      action(io, async (session: Session, _options: CommonOptions, user: string, project: string, role: string) => {
        const service = await session.service();
        const none = role === "none";
        await service.admin.setMembership({ user, project, role: none ? "" : role });
        const now = none ? `${user} has no role in ${project} any more.` : `${user} is now ${role} of ${project}.`;
        await session.printer.done(now, { user, project, role: none ? null : role });
      }),
    );
}

function addUserTokenCommands(admin: Command, io: Io): void {
  const token = addGroup(admin, "token", "Tokens of any user.");
  addCommand(token, "create", {
    summary: "Create a token for a user; prints its secret, once.",
    examples: ["admin token create alice --lifetime 90d > alice.token"],
  })
    .argument("<user>")
    .option("--note <text>", "what it is for", "")
    .option("--lifetime <time>", "how long it is valid: hours or days, up to 366d", parseLifetime, 30 * 24)
    .action(
      action(io, async (session: Session, options: { note: string; lifetime: number }, user: string) => {
        const { admin: service } = await session.service();
        const request = { user, note: options.note, lifetimeHours: options.lifetime };
        await printNewToken(session, await service.createUserToken(request));
      }),
    );
  addCommand(token, "list", { summary: "List a user's tokens.", examples: ["admin token list alice"] })
    .argument("<user>")
    .action(
      action(io, async (session: Session, _options: CommonOptions, user: string) => {
        const { tokens } = await (await session.service()).admin.listUserTokens({ user });
        await session.printer.list(tokens.map(tokenRow), tokenColumns);
      }),
    );
  addCommand(token, "revoke", { summary: "End a token at once.", examples: ["admin token revoke 7f3a91c25d08e6b4"] })
    .argument("<id>")
    .action(
      action(io, async (session: Session, _options: CommonOptions, id: string) => {
        await (await session.service()).admin.revokeUserToken({ id });
        await session.printer.done(`Token ${id} is revoked.`, { id, status: "revoked" });
      }),
    );
}

function addOwnerCommands(admin: Command, io: Io): void {
  const owner = addGroup(admin, "owner", "Which project owns a VM.");
  addCommand(owner, "set", {
    summary: "Give a VM to a project, or take it back.",
    description: "This outranks what the configuration of the VM's agent says.",
    examples: ["admin owner set web1 shop", "admin owner set web1 none"],
  })
    .argument("<vm>", "name or UUID, as `cloudvmi admin vms` shows it")
    .argument("<project>", "its project; none: nobody's, as before")
    .action(
      action(io, async (session: Session, _options: CommonOptions, vm: string, project: string) => {
        const service = await session.service();
        const uuid = await uuidOf(service, vm);
        const none = project === "none";
        await service.admin.setOwner({ vmUuid: uuid, project: none ? "" : project });
        const now = none ? `${vm} belongs to whom its agent says.` : `${vm} belongs to project ${project}.`;
        await session.printer.done(now, { uuid, project: none ? null : project });
      }),
    );
}

function addAgentCommands(admin: Command, io: Io): void {
  const agents = addGroup(admin, "agents", "The hosts that the service reaches.");
  addCommand(agents, "add", {
    summary: "Add a host's agent.",
    examples: [
      "admin agents add host2 tls://host2.example.com:7444",
      "admin agents add here unix:/run/cloudvmi/agent.sock",
    ],
  })
    .argument("<name>", "of the host")
    .argument("<address>", "tls://host:port or unix:/path")
    .action(
      action(io, async (session: Session, _options: CommonOptions, name: string, address: string) => {
        const { admin: service } = await session.service();
        const { agent } = await service.addAgent({ name, address });
        const problem = agent?.reachable === false ? ` It can't be reached: ${agent.problem}` : "";
        await session.printer.done(`Agent ${name} is known.${problem}`, {
          name,
          address,
          reachable: agent?.reachable ?? null,
          problem: agent?.problem || null,
        });
      }),
    );
  addCommand(agents, "list", {
    summary: "List the agents, and what is wrong with them.",
    examples: ["admin agents list"],
  }).action(
    action(io, async (session: Session) => {
      const { agents: all } = await (await session.service()).admin.listAgents({});
      const rows = all.map(({ name, address, reachable, problem, version, vms, warnings }) => ({
        name,
        address,
        reachable,
        vms,
        version,
        problem: problem || null,
        warnings,
      }));
      await session.printer.list(rows, [
        { name: "name" },
        { name: "address" },
        { name: "reachable", format: (value) => (value === true ? "yes" : "no") },
        { name: "vms", align: "right" },
        { name: "version" },
        { name: "problem" },
        { name: "warnings" },
      ]);
    }),
  );
  addCommand(agents, "remove", { summary: "Forget an agent and its VMs.", examples: ["admin agents remove host2"] })
    .argument("<name>")
    .action(
      action(io, async (session: Session, _options: CommonOptions, name: string) => {
        await (await session.service()).admin.removeAgent({ name });
        await session.printer.done(`Agent ${name} is forgotten.`, { name });
      }),
    );
}

function addVmCommands(admin: Command, io: Io): void {
  const group = addGroup(admin, "vms", "Every VM of every host, and which host has it.");
  addCommand(group, "list", {
    summary: "List every VM of every host, owned or not.",
    isDefault: true,
    examples: ["admin vms", "admin vms --limit 20 --json"],
  })
    .option("--limit <rows>", "at most so many", parseLimit)
    .action(
      action(io, async (session: Session, options: { limit?: number }) => {
        const { vms } = await (await session.service()).admin.listAllVms({});
        await session.printer.list(vms.slice(0, options.limit).map(vmRow), vmColumns);
      }),
    );
  addCommand(group, "move", {
    summary: "Give a VM to another host's agent, when it has moved there.",
    description:
      "A VM is the agent's that was the first to announce its UUID. What other agents say of it is refused until this\n" +
      "says otherwise, so that no host can answer for another's VMs; `cloudvmi admin agents` shows what is refused.",
    examples: ["admin vms move web1 host2", "admin vms move 89a2e9c9-3589-44ca-877f-01b16e6756ba host2"],
  })
    .argument("<vm>", "name or UUID; its UUID while it runs nowhere")
    .argument("<agent>", "name of the agent that has it from now on")
    .action(
      action(io, async (session: Session, _options: CommonOptions, vm: string, agent: string) => {
        const service = await session.service();
        // One that runs nowhere is on no list.
        const uuid = isUuid(vm) ? vm.toLowerCase() : await uuidOf(service, vm);
        await service.admin.moveVm({ vmUuid: uuid, agent });
        await session.printer.done(`${vm} is now agent ${agent}'s.`, { uuid, agent });
      }),
    );
}

const isUuid = (text: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

/** Of the one VM of all hosts with this name or UUID. Throws CliError. */
async function uuidOf({ admin }: CloudVmi, vm: string): Promise<string> {
  const { vms } = await admin.listAllVms({});
  const found = vms.filter(({ id, name }) => id?.uuid === vm.toLowerCase() || name === vm);
  const uuids = new Set(found.map(({ id }) => id?.uuid ?? ""));
  const [uuid] = uuids;
  if (uuid === undefined) {
    throw new CliError(exitCode.refused, `there is no VM '${vm}': \`cloudvmi admin vms\` lists all of them`);
  }
  if (uuids.size > 1) {
    throw new CliError(
      exitCode.usage,
      `${uuids.size} VMs are called '${vm}': name one by its UUID (\`cloudvmi admin vms\`)`,
    );
  }
  return uuid;
}
