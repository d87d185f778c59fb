// The documents, cut into what can be checked: blocks of code, commands, links, tables.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./planted.ts";

export interface Block {
  /** What stands behind the opening fence: "sh", "toml agent". */
  readonly info: string;
  readonly text: string;
  readonly line: number;
}

export interface Document {
  /** Relative to the repository. */
  readonly file: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** Everything outside of the blocks, line by line; lines of blocks are empty. */
  readonly prose: readonly string[];
}

export function readDocuments(): Document[] {
  const files = ["README.md", ...globSync("docs/**/*.md", { cwd: root })];
  return files.sort().map((file) => parseDocument(file, readFileSync(join(root, file), "utf8")));
}

export function parseDocument(file: string, text: string): Document {
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { info: string; lines: string[]; line: number } | undefined;
  for (const [at, line] of text.split("\n").entries()) {
    if (!line.startsWith("```")) {
      open?.lines.push(line);
      prose.push(open === undefined ? line : "");
      continue;
    }
    prose.push("");
    if (open === undefined) open = { info: line.slice(3).trim(), lines: [], line: at + 2 };
    else {
      blocks.push({ info: open.info, text: open.lines.join("\n"), line: open.line });
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`${file}:${open.line}: this block of code has no end`);
  return { file, text, blocks, prose };
}

/** The `code` within lines of prose. */
export function inlineCode({ prose }: Document): { text: string; line: number }[] {
  return prose.flatMap((line, at) =>
    [...line.matchAll(/(?<!`)`([^`]+)`(?!`)/g)].map((match) => ({ text: match[1]!, line: at + 1 })),
  );
}

export interface Shown {
  readonly words: readonly string[];
  readonly line: number;
  /** False for a mention within a sentence, which may leave arguments out. */
  readonly whole: boolean;
}

/** Every `cloudvmi …` that a document shows: lines of shell blocks, commands of console blocks, and mentions. */
export function commandsOf(document: Document): Shown[] {
  const shown: Shown[] = [];
  for (const { info, text, line } of document.blocks) {
    if (info !== "sh" && info !== "console") continue;
    const joined = text.replaceAll(/\\\n\s*/g, (gap) => " ".repeat(gap.length));
    for (const [at, each] of joined.split("\n").entries()) {
      const command = info === "sh" ? each : /^\w*[$#] (.*)$/.exec(each)?.[1];
      const words = command === undefined ? undefined : cloudvmiWords(command);
      if (words !== undefined) shown.push({ words, line: line + at, whole: true });
    }
  }
  for (const { text, line } of inlineCode(document)) {
    const words = cloudvmiWords(text);
    if (words !== undefined) shown.push({ words, line, whole: false });
  }
  return shown;
}

/** The words after `cloudvmi` of a shell command, up to a pipe, a redirection or a comment; undefined for other commands. */
export function cloudvmiWords(command: string): string[] | undefined {
  const words: string[] = [];
  for (const match of command.matchAll(/"([^"]*)"|'([^']*)'|([|>;&#].*)|([^\s"']+)/g)) {
    const [, double, single, end, plain] = match;
    if (end !== undefined) break;
    words.push(double ?? single ?? plain ?? "");
  }
  return /^(?:\.\/)?cloudvmi$/.test(words[0] ?? "") ? words.slice(1) : undefined;
}

/** Rows of the tables under a heading, as cells of text. */
export function tableRows({ text }: Document, heading: string): string[][] {
  const section = text.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`there is no section "${heading}"`);
  return section
    .split("\n")
    .filter((line) => line.startsWith("| ") && !/^\|[ |-]+\|$/.test(line))
    .slice(1)
    .map((line) => line.slice(1, -1).split("|"))
    .map((cells) => cells.map((cell) => cell.trim()));
}

/** Anchors of a document's headings, as GitHub makes them. */
export function anchorsOf({ prose }: Document): Set<string> {
  const headings = prose.flatMap((line) => /^#+ (.*)$/.exec(line)?.[1] ?? []);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}
