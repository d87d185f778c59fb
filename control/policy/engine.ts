import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import {
  type AuthorizationAnswer,
  type DetailedError,
  type Entities,
  type EntityJson,
  policySetTextToParts,
  policyToJson,
  preparsePolicySet,
  schemaToJson,
  statefulIsAuthorized,
  type TypeAndId,
  validate,
} from "@cedar-policy/cedar-wasm/nodejs";
import type { Action } from "../action.ts";

/** A policy file that can't be used; the message is one line that names the file. */
export class PolicyError extends Error {}

export interface Decision {
  readonly allow: boolean;
  /** Ids of the policies that determined it; empty when it is denied because none permits it. */
  readonly policies: readonly string[];
  /** Policies that could not be evaluated; Cedar then leaves them out. */
  readonly errors: readonly string[];
}

export interface PolicyQuestion {
  readonly principal: TypeAndId;
  readonly action: Action;
  readonly resource: TypeAndId;
  readonly context: Record<string, string>;
  readonly entities: Entities;
}

export interface PolicyEngine {
  decide(question: PolicyQuestion): Decision;
  /** Whether any policy looks at tags, the labels of VMs. If none does they need not be told. */
  readonly usesTags: boolean;
}

const shipped = path.join(import.meta.dirname, "policies");
/** The schema that policies are validated against. */
const policySchema: string = readFileSync(path.join(import.meta.dirname, "cloudvmi.cedarschema"), "utf8");

/** Every action of the schema that can be asked for, with the groups it is in. */
export const actionEntities: ReadonlyMap<string, EntityJson> = readActions();

let engines = 0;

/**
 * Loads the policies that come with CloudVMI and the operator's own from `directory`. Each must fit the schema, so
 * that a misspelt attribute is found at start rather than read as "no".
 */
export function loadPolicies(directory?: string): PolicyEngine {
  const policies: Record<string, string> = {};
  const fileOf = new Map<string, string>();
  for (const file of [...cedarFiles(shipped), ...(directory === undefined ? [] : cedarFiles(directory))]) {
    for (const [id, text] of readPolicies(file)) {
      const other = fileOf.get(id);
      if (other !== undefined) throw new PolicyError(`${file}: policy ${id} is also in ${other}: give it another @id`);
      fileOf.set(id, file);
      policies[id] = text;
    }
  }
  const checked = validate({ schema: policySchema, policies: { staticPolicies: policies } });
  if (checked.type === "failure") throw new PolicyError(`policies: ${firstMessage(checked.errors)}`);
  const [problem] = checked.validationErrors;
  if (problem !== undefined) {
    throw new PolicyError(`${fileOf.get(problem.policyId)}: policy ${problem.policyId}: ${oneLine(problem.error)}`);
  }
  const name = `cloudvmi-${engines++}`;
  const parsed = preparsePolicySet(name, { staticPolicies: policies });
  if (parsed.type === "failure") throw new PolicyError(`policies: ${firstMessage(parsed.errors)}`);
  return {
    usesTags: Object.values(policies).some(looksAtTags),
    // Groups of actions are told by an entity: giving Cedar the schema at every question would double its time.
    decide: (question) =>
      decisionOf(
        statefulIsAuthorized({
          principal: question.principal,
          action: actionUid(question.action),
          resource: question.resource,
          context: question.context,
          entities: [...question.entities, actionEntities.get(question.action)!],
          preparsedPolicySetId: name,
        }),
      ),
  };
}

/** Of a policy's text: at worst a text or comment of it says so too. */
function looksAtTags(policy: string): boolean {
  return /\b(?:hasTag|getTag)\b/.test(policy);
}

function actionUid(id: string): TypeAndId {
  return { type: "CloudVMI::Action", id };
}

function readActions(): Map<string, EntityJson> {
  const schema = schemaToJson(policySchema);
  if (schema.type === "failure") throw new PolicyError(`cloudvmi.cedarschema: ${firstMessage(schema.errors)}`);
  const actions = Object.entries(schema.json.CloudVMI!.actions);
  return new Map(
    actions
      .filter(([, action]) => (action.appliesTo?.resourceTypes.length ?? 0) > 0)
      .map(([id, action]) => [
        id,
        { uid: actionUid(id), attrs: {}, parents: (action.memberOf ?? []).map((group) => actionUid(group.id)) },
      ]),
  );
}

function decisionOf(answer: AuthorizationAnswer): Decision {
  if (answer.type === "failure") throw new Error(`Cedar refused a question: ${firstMessage(answer.errors)}`);
  const { decision, diagnostics } = answer.response;
  return {
    allow: decision === "allow",
    policies: diagnostics.reason,
    errors: diagnostics.errors.map(({ policyId, error }) => `${policyId}: ${oneLine(error)}`),
  };
}

function cedarFiles(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw new PolicyError(`policies: can't read ${directory}: ${(error as Error).message}`);
  }
  return names
    .filter((name) => name.endsWith(".cedar"))
    .sort()
    .map((name) => path.join(directory, name));
}

/** The policies of a file with their ids: the `@id` annotation, else the file's name and a number. */
function* readPolicies(file: string): Generator<[id: string, text: string]> {
  const parts = policySetTextToParts(readFileSync(file, "utf8"));
  if (parts.type === "failure") throw new PolicyError(`${file}: ${firstMessage(parts.errors)}`);
  if (parts.policy_templates.length > 0) {
    throw new PolicyError(`${file}: policy templates (?principal, ?resource) are not supported: write the policy out`);
  }
  for (const [index, text] of parts.policies.entries()) {
    const json = policyToJson(text);
    if (json.type === "failure") throw new PolicyError(`${file}: ${firstMessage(json.errors)}`);
    yield [json.json.annotations?.id ?? `${path.basename(file, ".cedar")}-${index + 1}`, text];
  }
}

function firstMessage(errors: DetailedError[]): string {
  return errors[0] === undefined ? "it could not be parsed" : oneLine(errors[0]);
}

function oneLine({ message, help, sourceLocations }: DetailedError): string {
  const at = sourceLocations?.[0] === undefined ? "" : ` at character ${sourceLocations[0].start}`;
  return `${message}${at}${help ? ` (${help})` : ""}`.replace(/\s+/g, " ");
}
