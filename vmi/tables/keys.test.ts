import assert from "node:assert/strict";
import { test } from "node:test";
import { attach } from "../guest.ts";
import { checkKeys } from "../testing/keyed.ts";
import { miniGuest } from "../testing/mini-guest.ts";
import { tables } from "./index.ts";

for (const flavour of ["6.1", "6.13"] as const) {
  test(`a constraint on a key answers as a filter would, with less work: ${flavour}`, () => {
    const { ram } = miniGuest({ flavour }).kernel;
    for (const memory of [ram.mapped(), ram.paged()]) {
      const guest = attach(memory);
      const tried: string[] = [];
      for (const table of tables) {
        const keys = checkKeys(guest, table);
        if (keys !== "unsupported") tried.push(...keys);
      }
      assert.ok(tried.length >= 35, `only ${tried.length} keys of this guest: ${tried.join(", ")}`);
    }
  });
}
