// shell_history against what a shell said of its own history, and lines that the workload typed into another.
import assert from "node:assert/strict";
import { read } from "../engine/support.ts";
import type { Comparison } from "./comparison.ts";

export const comparison: Comparison = {
  table: "shell_history",
  async compare(subject, guest) {
    const said = await subject.lab.exec("cat /run/system-history");
    // Number, seconds, line; a line may hold line ends.
    const told = said
      .split(/^ *\d+\*? +(?=\d{10} )/m)
      .slice(1)
      .map((entry) => ({ time: Number(entry.slice(0, 10)), command: entry.slice(11).replace(/\n$/, "") }));
    const rows = read(guest, "shell_history");
    const { processes } = await subject.lab.truth();
    const shells = new Map(rows.map((row) => [row.pid, processes.get(Number(row.pid))]));
    for (const [pid, shell] of shells) assert.equal(shell?.comm, "bash", `process ${String(pid)}`);
    const files = new Set<string | null>();
    for (const row of rows) {
      const shell = shells.get(row.pid);
      assert.equal(row.uid, shell?.uids[0]);
      const variableOf = (name: string) => shell?.env.find((entry) => entry.startsWith(name))?.slice(name.length);
      const home = variableOf("HOME=");
      const file = variableOf("HISTFILE=") ?? (home === undefined ? null : `${home}/.bash_history`);
      assert.equal(row.history_file, file);
      files.add(file);
    }
    assert.ok(files.has("/dev/null") && files.has("/run/.bash_history"));
    const own = [...shells].find(([, shell]) => shell?.argv.includes("--norc"))?.[0];
    const listed = rows.filter((row) => row.pid === own && row.deleted === 0);
    assert.deepEqual(
      listed.map(({ time, command }) => ({ time, command })),
      told,
    );
    assert.ok(told.some(({ command }) => command === "echo café"));
    assert.ok(told.some(({ command }) => command === "true 'two\nlines'"));
    assert.ok(told.some(({ command }) => command.length > 1000));
    // `history -c` came before it.
    const typed = [...shells].find(([, shell]) => shell?.argv[0] === "-bash")?.[0];
    const last = rows.filter((row) => row.pid === typed && row.deleted === 0).map(({ command }) => command);
    assert.deepEqual(last, [": last words"]);
    const where = [{ column: "pid", values: [String(own)] }];
    assert.deepEqual(
      read(guest, "shell_history", { where }),
      rows.filter((row) => row.pid === own),
    );
    return `${rows.length} rows`;
  },
};
