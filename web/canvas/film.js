/** The previews of a sampler under its node: live while it runs, step by step afterwards. */

import { el } from "../panels/dom.js";

const AHEAD = 3; // pictures that are fetched before they are asked for

/** @typedef {{jobId: string, nodeId: string, steps: readonly number[]}} Film as the server keeps it */

/** @param {(film: Film, index: number) => string} addressOf of a frame's picture */
export function createFilm(addressOf) {
  const image = el("img", { class: "film-picture", alt: "", draggable: "false" });
  const slider = el("input", { type: "range", min: "1", step: "1", "aria-label": "Step" });
  const count = el("output", {});
  const bar = el("label", { class: "film-bar" }, slider, count);
  const element = el("div", { class: "film", hidden: true }, image, bar);
  const toggle = el(
    "button",
    {
      type: "button",
      class: "film-toggle",
      hidden: true,
      "aria-expanded": "false",
      title: "The picture at each step, as it was when the node ran last",
      "aria-label": "The picture at each step",
    },
    "steps",
  );
  /** @type {Film | null} */
  let film = null;
  let isOpen = false;

  function showFrame() {
    if (!film) return;
    const at = Number(slider.value);
    const step = film.steps[at - 1];
    image.src = addressOf(film, at - 1);
    image.alt = `Preview at step ${step}`;
    count.textContent = `${step} / ${film.steps.at(-1)}`;
    slider.setAttribute("aria-valuetext", `step ${step} of ${film.steps.at(-1)}`);
    for (let next = at - AHEAD; next <= at + AHEAD; next++) {
      if (film.steps[next - 1] !== undefined) new Image().src = addressOf(film, next - 1);
    }
  }

  /** @param {boolean} open */
  function setOpen(open) {
    isOpen = open;
    toggle.setAttribute("aria-expanded", String(open));
    element.hidden = !open;
    bar.hidden = !open;
    if (!open || !film) return;
    slider.max = String(film.steps.length);
    slider.value = slider.max;
    showFrame();
  }

  image.addEventListener("error", () => {
    if (isOpen) count.textContent = "no longer kept";
  });
  slider.addEventListener("input", showFrame);
  toggle.addEventListener("click", () => {
    setOpen(!isOpen);
    if (isOpen) slider.focus({ preventScroll: true });
  });

  return {
    element,
    toggle,
    /**
     * @param {Film | null} next
     * @param {string | null} live the address of the newest preview, while it runs
     */
    update(next, live) {
      const isNew = next?.jobId !== film?.jobId || next?.nodeId !== film?.nodeId;
      film = next;
      toggle.hidden = live !== null || !film || film.steps.length < 2;
      if (live !== null) {
        isOpen = false;
        toggle.setAttribute("aria-expanded", "false");
        element.hidden = false;
        bar.hidden = true;
        image.src = live;
        image.alt = "Live preview";
      } else if (toggle.hidden || isNew) {
        setOpen(false);
      } else if (!isOpen) {
        element.hidden = true;
      }
    },
  };
}
