/** YARA rules, compiled. */
import { createHash } from "node:crypto";
import { type CompilerOptions, compile, validate, type YaraX } from "@litko/yara-x";
import { declaredIn } from "./rule-names.ts";

/** Rules of one namespace. */
export interface RuleSource {
  readonly name: string;
  readonly source: string;
}

export interface FoundRule {
  readonly rule: string;
  readonly namespace: string;
  readonly tags: readonly string[];
  readonly meta: readonly { readonly name: string; readonly value: string }[];
  /** Empty when the condition holds without a pattern. */
  readonly matches: readonly { readonly pattern: string; readonly offset: number; readonly length: number }[];
}

export interface RuleSet {
  readonly warnings: readonly string[];
  /** The rules whose conditions hold for these bytes. */
  scan(bytes: Uint8Array): FoundRule[];
}

/** The message is one line: for each problem `FILE:LINE:COLUMN: what`. */
export class BadRules extends Error {
  override readonly name = "BadRules";
}

/** Bytes and files of one set. */
const maxRuleBytes = 1536 << 10;
const maxRuleFiles = 1024;
/** Of one pattern in one region, each of which comes with a copy of what matched: further ones are not told or counted. */
const maxMatchesOfPattern = 1000;
/** Problems that are told, and warnings. */
const maxProblems = 5;
const maxWarnings = 20;
/** Compiled sets that are kept, by the bytes of their sources. */
const keptBytes = 2 << 20;

const denied = (name: string, needs: string) => ({
  name,
  errorTitle: `module \`${name}\` is not available`,
  errorMessage: `it needs ${needs}`,
});

const options: CompilerOptions = {
  enableIncludes: false,
  bannedModules: [denied("cuckoo", "a report of a sandbox"), denied("vt", "data of VirusTotal")],
};

/** Compiled rules by their contents: a set that is used again is not compiled again. */
export function createRuleCache(): (files: readonly RuleSource[]) => RuleSet {
  const kept = new Map<string, { rules: RuleSet; bytes: number }>();
  return (files) => {
    const key = createHash("sha256").update(JSON.stringify(files)).digest("hex");
    const known = kept.get(key);
    if (known !== undefined) {
      kept.delete(key);
      kept.set(key, known);
      return known.rules;
    }
    const rules = compileRules(files);
    kept.set(key, { rules, bytes: sizeOf(files) });
    let bytes = [...kept.values()].reduce((sum, set) => sum + set.bytes, 0);
    for (const [oldest, set] of kept) {
      if (bytes <= keptBytes || oldest === key) break;
      kept.delete(oldest);
      bytes -= set.bytes;
    }
    return rules;
  };
}

/** @throws BadRules */
export function compileRules(files: readonly RuleSource[]): RuleSet {
  if (files.length > maxRuleFiles) throw new BadRules(`more than ${maxRuleFiles} files of rules`);
  const bytes = sizeOf(files);
  if (bytes > maxRuleBytes) {
    throw new BadRules(`${bytes} bytes of rules are over the limit of ${maxRuleBytes}: scan with fewer at once`);
  }
  const declared = files.map((file) => ({ ...file, ...declaredIn(file.source) }));
  if (declared.every(({ rules }) => rules.length === 0)) {
    const problems = files.flatMap(problemsOf);
    throw new BadRules(problems.length > 0 ? listed(problems) : "there is no rule in what was given");
  }
  const parts = grouped(declared).map(compilePart);
  return {
    warnings: parts.flatMap(({ warnings }) => warnings).slice(0, maxWarnings),
    scan: (data) => parts.flatMap((part) => part.scan(data)),
  };
}

interface SourceFile extends RuleSource {
  readonly rules: readonly string[];
  readonly global: boolean;
}

/**
 * Files that can be compiled as one, so that memory is looked through once. The compiler is told of no namespaces: files with
 * rules of the same name, and what a global rule decides over, are kept apart.
 */
function grouped(files: readonly SourceFile[]): SourceFile[][] {
  const groups: { files: SourceFile[]; names: Set<string> }[] = [];
  const alone: SourceFile[][] = [];
  for (const file of files) {
    if (file.global) {
      alone.push([file]);
      continue;
    }
    let group = groups.find(({ names }) => file.rules.every((rule) => !names.has(rule)));
    if (group === undefined) {
      group = { files: [], names: new Set() };
      groups.push(group);
    }
    group.files.push(file);
    for (const rule of file.rules) group.names.add(rule);
  }
  return [...groups.map((group) => group.files), ...alone];
}

function compilePart(files: readonly SourceFile[]): RuleSet {
  let compiled: YaraX;
  try {
    compiled = compile(files.map(({ source }) => source).join("\n"), options);
  } catch (error) {
    // Each by itself, for a place within its file.
    const problems = files.flatMap(problemsOf);
    const reason = error instanceof Error ? reasonOf(error.message).text : String(error);
    throw new BadRules(
      problems.length > 0 ? listed(problems) : `${files.map(({ name }) => name).join(", ")}: ${reason}`,
    );
  }
  compiled.setMaxMatchesPerPattern(maxMatchesOfPattern);
  const namespaces = new Map(files.flatMap(({ name, rules }) => rules.map((rule) => [rule, name] as const)));
  return {
    warnings: compiled.getWarnings().map(({ message }) => placed(message, files)),
    scan(bytes) {
      const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      return compiled.scan(view).map(({ ruleIdentifier, tags, meta, matches }) => ({
        rule: ruleIdentifier,
        namespace: namespaces.get(ruleIdentifier) ?? "",
        tags,
        meta: Object.entries(meta).map(([name, value]) => ({ name, value: String(value) })),
        matches: matches.map(({ identifier, offset, length }) => ({ pattern: identifier, offset, length })),
      }));
    },
  };
}

function problemsOf({ name, source }: RuleSource): string[] {
  return validate(source, options).errors.map(({ message }) => {
    const { line, column, text } = reasonOf(message);
    return `${name}:${line}:${column}: ${text}`;
  });
}

function listed(problems: readonly string[]): string {
  const more = problems.length - maxProblems;
  return [...problems.slice(0, maxProblems), ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

/** A report of the compiler's: its title, where it is, and what it says of that place. */
function reasonOf(message: string): { line: number; column: number; text: string } {
  const [, title = message.split("\n", 1)[0]!] = /(?:error|warning)(?:\[\w+\])?: (.*)/.exec(message) ?? [];
  const [, line = "1", column = "1"] = /--> line:(\d+):(\d+)/.exec(message) ?? [];
  const [, label = ""] = /^ *\| +\^+ (.+)$/m.exec(message) ?? [];
  return { line: Number(line), column: Number(column), text: label === "" ? title : `${title}: ${label}` };
}

/** A warning about files that were compiled as one. */
function placed(message: string, files: readonly SourceFile[]): string {
  const reason = reasonOf(message);
  let { line } = reason;
  for (const { name, source } of files) {
    const lines = source.split("\n").length;
    if (line <= lines) return `${name}:${line}:${reason.column}: ${reason.text}`;
    line -= lines;
  }
  return reason.text;
}

function sizeOf(files: readonly RuleSource[]): number {
  return files.reduce((sum, { source }) => sum + Buffer.byteLength(source), 0);
}
