import assert from "node:assert/strict";
import { test } from "node:test";
import { Budget } from "../budget.ts";
import { attach } from "../guest.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { kernelText } from "./kernel-text.ts";
import { runChecks } from "./run.ts";

test("an image that could not be had is a note, in the words that it came with", () => {
  const kernelImage = "kernel image of vmlinuz: can't be read: no such file";
  const { kernel } = attach(miniGuest().kernel.ram.mapped(), { kernelImage });
  const { notes } = runChecks([kernelText], kernel, new Budget());
  assert.ok(notes.includes(`kernel-text: ${kernelImage}`), notes.join("\n"));
});
