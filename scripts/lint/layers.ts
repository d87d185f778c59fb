// Who may import whom, between the top-level folders: the trust zones of docs/design.md as data, and the lint rule that
// holds every import to them (static, dynamic, type-only and re-exports alike). An oxlint plugin, see .oxlintrc.json.
import { dirname, posix, relative, resolve, sep } from "node:path";

export type Reach = "static" | "lazy";

interface Layer {
  /** The other folders it may import, and how: "lazy" means by `import()` or `import type` only, so that start-up stays cheap. */
  readonly may: Readonly<Record<string, Reach>> | "everything";
  /** The files others may import. Tests and benchmarks may import any file. */
  readonly faces: readonly RegExp[];
}

const index = [/^index\.ts$/];

export const layers: Readonly<Record<string, Layer>> = {
  proto: { may: {}, faces: [/^gen\//] },
  vmi: { may: {}, faces: [/^index\.ts$/, /^driver\/\w+\/index\.ts$/] },
  wire: { may: { proto: "static" }, faces: index },
  sdk: { may: { proto: "static", wire: "static" }, faces: index },
  // What else it offers is small, and used without SQL too.
  sql: { may: { proto: "static" }, faces: [/^index\.ts$/, /^nearest\.ts$/] },
  agent: { may: { vmi: "static", proto: "static", wire: "static" }, faces: index },
  control: { may: { proto: "static", wire: "static", sql: "static" }, faces: index },
  cli: {
    may: { sdk: "static", wire: "static", proto: "static", sql: "static", agent: "lazy", control: "lazy", vmi: "lazy" },
    faces: index,
  },
  lab: { may: {}, faces: index },
  demo: { may: { lab: "static", sdk: "static", control: "static" }, faces: [/^cluster\.ts$/] },
  scripts: { may: { lab: "lazy", vmi: "static" }, faces: [] },
  bench: { may: "everything", faces: [] },
  tests: { may: "everything", faces: [] },
};

/** Why `file` may not import `target` (both relative to the repository, with forward slashes); undefined when it may. */
export function refusal(file: string, target: string, reach: Reach): string | undefined {
  const [from = "", to = ""] = [file, target].map((path) => path.split("/", 1)[0]);
  if (from === to) return undefined;
  const source = layers[from];
  const destination = layers[to];
  if (!source || !destination) {
    const unknown = source ? target : file;
    return `${unknown} is in no known layer: give its folder a line in scripts/lint/layers.ts`;
  }
  const allowed = source.may === "everything" ? "static" : source.may[to];
  if (!allowed) return `${from}/ may not import ${to}/ (scripts/lint/layers.ts)`;
  if (allowed === "lazy" && reach === "static")
    return `${from}/ may import ${to}/ only by import(), so that it loads only when it is needed`;
  const inside = target.slice(to.length + 1);
  const sees = source.may === "everything" || file.endsWith(".test.ts");
  if (!sees && !destination.faces.some((face) => face.test(inside)))
    return `${from}/ may import only the public face of ${to}/ (${to}/index.ts), not ${inside}`;
  return undefined;
}

interface SourceNode {
  type: string;
  importKind?: "type" | "value";
  exportKind?: "type" | "value";
  source: { type: string; value?: unknown } | null;
}
interface RuleContext {
  readonly filename: string;
  readonly cwd: string;
  report(problem: { node: unknown; message: string }): void;
}

function check(context: RuleContext, node: SourceNode): void {
  const specifier = node.source?.value;
  if (typeof specifier !== "string" || !specifier.startsWith(".")) return;
  const toPath = (path: string) => relative(context.cwd, path).split(sep).join(posix.sep);
  const lazy = node.type === "ImportExpression" || (node.importKind ?? node.exportKind) === "type";
  const message = refusal(
    toPath(context.filename),
    toPath(resolve(dirname(context.filename), specifier)),
    lazy ? "lazy" : "static",
  );
  if (message) context.report({ node, message });
}

export default {
  meta: { name: "cloudvmi" },
  rules: {
    layers: {
      create(context: RuleContext) {
        const visit = (node: SourceNode) => check(context, node);
        return {
          ImportDeclaration: visit,
          ImportExpression: visit,
          ExportNamedDeclaration: visit,
          ExportAllDeclaration: visit,
        };
      },
    },
  },
};
