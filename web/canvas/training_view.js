/** A training under its node: the curve of its loss, numbers, sample pictures; live while it runs. */

import { el, svg } from "../panels/dom.js";
import { curvesOf, wordsOf } from "../run/training.js";

const WIDTH = 300;
const HEIGHT = 90;
const SHOWN_SAMPLES = 4;

/** @param {(file: import("../api/http.js").FileRef) => string} addressOf */
export function createTrainingView(addressOf) {
  const losses = svg("polyline", { class: "loss" });
  const mean = svg("polyline", { class: "mean" });
  const validation = svg("polyline", { class: "validation" });
  const curve = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
    losses,
    mean,
    validation,
  );
  const high = el("span", { class: "training-high" });
  const low = el("span", { class: "training-low" });
  const words = el("p", { class: "training-words" });
  const notes = el("ul", { class: "training-notes" });
  const samples = el("div", { class: "training-samples" });
  const plot = el("div", { class: "training-plot" }, curve, high, low);
  const element = el("div", { class: "training", hidden: true }, plot, words, notes, samples);
  let shownSamples = "";

  /** @param {import("../run/training.js").Training} training */
  function showSamples({ samples: all = [] }) {
    const newest = all.slice(-SHOWN_SAMPLES);
    const key = JSON.stringify(newest);
    if (key === shownSamples) return;
    shownSamples = key;
    samples.replaceChildren(
      ...newest.map(({ step, images }) =>
        el(
          "figure",
          {},
          images.map((file) =>
            el("img", { src: addressOf(file), alt: `Sample at step ${step}`, draggable: "false" }),
          ),
          el("figcaption", {}, `step ${step}`),
        ),
      ),
    );
  }

  return {
    element,
    /** @param {import("../run/training.js").Training | null} training */
    update(training) {
      element.hidden = training === null;
      if (training === null) return;
      const curves = curvesOf(training);
      losses.setAttribute("points", pointsOf(curves.losses));
      mean.setAttribute("points", pointsOf(curves.mean));
      validation.setAttribute("points", pointsOf(curves.validation));
      curve.setAttribute("aria-label", `Loss from ${curves.low} to ${curves.high}`);
      high.textContent = curves.high.toPrecision(2);
      low.textContent = curves.low.toPrecision(2);
      words.textContent = wordsOf(training);
      notes.replaceChildren(...(training.notes ?? []).map((note) => el("li", {}, note)));
      showSamples(training);
    },
  };
}

/** @param {number[][]} places in a box of 1 × 1 */
const pointsOf = (places) =>
  places.map(([x, y]) => `${(x * WIDTH).toFixed(1)},${(y * HEIGHT).toFixed(1)}`).join(" ");
