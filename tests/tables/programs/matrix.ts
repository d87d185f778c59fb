// npm run matrix [-- TEXT …]: boots one kernel of the archive after the other and compares every table with the guest's own
// truth. Prints a table of table by kernel, and what differs. With TEXT only kernels whose title has it: "rt", "6.12 cloud".
import { comparisons } from "../comparison.ts";
import { compareOn, everyKernel, type Outcome, titleOf } from "../matrix.ts";

const wanted = process.argv.slice(2);
const kernels = everyKernel.filter(
  (each) => wanted.length === 0 || wanted.some((text) => titleOf(each).includes(text)),
);
if (kernels.length === 0) {
  console.error(`There is no such kernel; there are ${everyKernel.map(titleOf).join(", ")}.`);
  process.exit(2);
}

const all = await comparisons();
const columns: { title: string; outcomes: Map<string, Outcome> }[] = [];
for (const kernel of kernels) {
  const title = titleOf(kernel);
  const started = performance.now();
  try {
    const { release, outcomes } = await compareOn(kernel, all);
    columns.push({ title, outcomes });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const count = (verdict: Outcome["verdict"]) =>
      [...outcomes.values()].filter((each) => each.verdict === verdict).length;
    console.log(
      `${title} (${release}): ${count("equal")} equal, ${count("differs")} differ, ` +
        `${count("not applicable")} not applicable, ${seconds} s`,
    );
  } catch (error) {
    columns.push({ title, outcomes: new Map() });
    console.log(`${title}: ${(error as Error).message}`);
  }
}

const marks = { equal: "equal", differs: "DIFFERS", "not applicable": "n/a" };
const notes: string[] = [];
console.log(
  `\n| Table | ${columns.map(({ title }) => title).join(" | ")} |\n|---|${columns.map(() => "---|").join("")}`,
);
for (const { table } of all) {
  const cells = columns.map(({ title, outcomes }) => {
    const outcome = outcomes.get(table);
    if (outcome !== undefined && outcome.verdict !== "equal")
      notes.push(`- ${table} on ${title}, ${outcome.verdict}: ${outcome.text}`);
    for (const failure of outcome?.failures ?? [])
      notes.push(`- ${table} on ${title}, in an earlier attempt: ${failure}`);
    return outcome === undefined ? "not run" : marks[outcome.verdict];
  });
  console.log(`| ${table} | ${cells.join(" | ")} |`);
}
if (notes.length > 0) console.log(`\n${notes.join("\n")}`);
const complete = columns.every(({ outcomes }) => outcomes.size === all.length);
process.exitCode = complete && !notes.some((note) => note.includes(", differs: ")) ? 0 : 1;
