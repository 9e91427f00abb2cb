/** The previews of a sampler under its node: live while it runs, step by step afterwards. */

import { el } from "../panels/dom.js";

/**
 * @param {string} words name of the slider
 */
export function createFilm(words) {
  const image = el("img", { class: "film-picture", alt: "", draggable: "false" });
  const slider = el("input", { type: "range", min: "1", step: "1", "aria-label": words });
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
      title: "The picture at each step",
      "aria-label": "The picture at each step",
    },
    "steps",
  );
  /** @type {readonly Blob[]} */
  let frames = [];
  let isOpen = false;
  let url = "";

  function showFrame() {
    const at = Number(slider.value);
    const frame = frames[at - 1];
    if (!frame) return;
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(frame);
    image.src = url;
    image.alt = `Preview at step ${at}`;
    count.textContent = `${at} / ${frames.length}`;
    slider.setAttribute("aria-valuetext", `step ${at} of ${frames.length}`);
  }

  /** @param {boolean} open */
  function setOpen(open) {
    isOpen = open;
    toggle.setAttribute("aria-expanded", String(open));
    element.hidden = !open;
    bar.hidden = !open;
    if (!open) return;
    slider.max = String(frames.length);
    slider.value = String(frames.length);
    showFrame();
  }

  slider.addEventListener("input", showFrame);
  toggle.addEventListener("click", () => setOpen(!isOpen));

  return {
    element,
    toggle,
    /**
     * @param {readonly Blob[]} next
     * @param {string | null} live the address of the newest preview, while it runs
     */
    update(next, live) {
      const isNew = next !== frames && next.length !== frames.length;
      frames = next;
      toggle.hidden = live !== null || frames.length < 2;
      if (live !== null) {
        isOpen = false;
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
