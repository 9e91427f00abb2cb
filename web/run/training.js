/**
 * What a training shows of itself (`ui.training` of its node), as numbers to draw; knows no page.
 *
 * @typedef {import("../api/http.js").FileRef} FileRef
 * @typedef {object} Training
 * @property {number} step
 * @property {number} steps
 * @property {number} loss smoothed
 * @property {number} lr
 * @property {number} seconds_left
 * @property {[step: number, loss: number, lr: number][]} points
 * @property {[step: number, loss: number][]} [validation]
 * @property {{step: number, images: FileRef[]}[]} [samples] the oldest first
 * @property {string[]} [notes] what was noticed: warnings, advice
 */

const SMOOTHING = 0.9;

/** @param {any} output the `ui` of a node @returns {Training | null} */
export function trainingOf(output) {
  const training = output?.training;
  const found = Array.isArray(training) ? training[0] : null;
  return Array.isArray(found?.points) ? found : null;
}

/**
 * The curves in a box of 1 × 1, y downwards: every loss, its running mean, the validation.
 * @param {Training} training
 */
export function curvesOf({ points, validation = [], steps }) {
  /** @type {[number, number][]} */
  const mean = [];
  let running = 0;
  for (const [at, [step, loss]] of points.entries()) {
    const weight = Math.min(SMOOTHING, at / (at + 4));
    running = loss + weight * (running - loss);
    mean.push([step, running]);
  }
  const steady = [...mean.slice(Math.floor(mean.length / 20)), ...validation].map(([, y]) => y);
  const low = Math.min(...steady);
  const high = Math.max(...steady, low + 1e-9);
  const margin = (high - low) * 0.15;
  const bottom = Math.max(0, low - margin);
  const top = high + margin;
  const place = (/** @type {number} */ step, /** @type {number} */ y) => [
    step / Math.max(1, steps),
    Math.min(1, Math.max(0, (top - y) / (top - bottom))),
  ];
  return {
    low: bottom,
    high: top,
    losses: points.map(([step, loss]) => place(step, loss)),
    mean: mean.map(([step, loss]) => place(step, loss)),
    validation: validation.map(([step, loss]) => place(step, loss)),
  };
}

/** @param {Training} training */
export function wordsOf({ step, steps, loss, lr, seconds_left: left }) {
  const words = [`step ${step} of ${steps}`, `loss ${number(loss)}`, `rate ${lr.toExponential(1)}`];
  if (step < steps) words.push(`${duration(left)} left`);
  return words.join(" · ");
}

/** @param {number} value */
const number = (value) => (Number.isFinite(value) ? value.toPrecision(3) : "?");

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
