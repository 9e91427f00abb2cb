import assert from "node:assert/strict";
import { test } from "node:test";

import { curvesOf, trainingOf, wordsOf } from "../../../web/run/training.js";

const training = {
  step: 100,
  steps: 400,
  loss: 0.04213,
  lr: 1e-4,
  seconds_left: 200,
  points: Array.from({ length: 100 }, (_, at) => [at + 1, 1 / (at + 1), 1e-4]),
  validation: [[50, 0.2]],
};

test("only an output with points is a training", () => {
  assert.equal(trainingOf(null), null);
  assert.equal(trainingOf({ training: "x" }), null);
  assert.equal(trainingOf({ training: [{ step: 1 }] }), null);
  assert.equal(trainingOf({ training: [training] }), training);
});

test("curves lie in their box, by step from left to right, and fall with the loss", () => {
  const { losses, mean, validation, low, high } = curvesOf(training);
  for (const [x, y] of [...losses, ...mean, ...validation]) {
    assert.ok(x >= 0 && x <= 1 && y >= 0 && y <= 1, `${x} ${y}`);
  }
  assert.equal(losses.at(-1)[0], 0.25);
  assert.ok(low < high);
  assert.ok(mean.at(-1)[1] > mean[10][1]);
  assert.deepEqual(curvesOf({ ...training, points: [], validation: [] }).mean, []);
});

test("one point and equal losses can be drawn", () => {
  for (const points of [[[1, 0.5, 1]], [[1, 0.5, 1], [2, 0.5, 1]]]) {
    const { mean } = curvesOf({ ...training, points, validation: [] });
    assert.ok(mean.flat().every(Number.isFinite));
  }
});

test("the numbers in words", () => {
  assert.equal(wordsOf(training), "step 100 of 400 · loss 0.0421 · rate 1.0e-4 · 3 min left");
  assert.equal(wordsOf({ ...training, step: 400 }), "step 400 of 400 · loss 0.0421 · rate 1.0e-4");
});
