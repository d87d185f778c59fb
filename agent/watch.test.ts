import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { watchProgress } from "./watch.ts";

function setUp() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  let clock = 0;
  let hung = 0;
  const watch = watchProgress(
    100,
    () => {
      hung++;
    },
    () => clock,
  );
  const pass = (ms: number) => {
    for (let i = 0; i < ms; i += 10) {
      clock += 10;
      mock.timers.tick(10);
    }
  };
  return { watch, pass, hung: () => hung };
}

test("hung: nothing answered for the budget of the most patient question and the grace", () => {
  const { watch, pass, hung } = setUp();
  watch.begin(300);
  watch.begin(1000);
  pass(1080);
  assert.equal(hung(), 0);
  pass(40);
  assert.equal(hung(), 1);
  watch.close();
});

test("not hung: a queue that moves", () => {
  const { watch, pass, hung } = setUp();
  const answers = Array.from({ length: 5 }, () => watch.begin(300));
  for (const answered of answers) {
    pass(380);
    answered();
  }
  assert.equal(hung(), 0);
  pass(5000);
  assert.equal(hung(), 0);
});

test("an idle time before counts for nothing", () => {
  const { watch, pass, hung } = setUp();
  watch.begin(100)();
  pass(10_000);
  watch.begin(100);
  pass(150);
  assert.equal(hung(), 0);
  pass(100);
  assert.equal(hung(), 1);
  watch.close();
});
