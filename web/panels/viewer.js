/** Pictures in full size: through a row of them with the arrow keys, or two under a slider. */

import { button, el } from "./dom.js";
import { openJob } from "./open.js";

const SMALL_PX = 256; // pictures up to this size are shown with crisp pixels

/**
 * @typedef {{file: import("../api/http.js").FileRef, jobId?: string, words: string}} Picture
 */

/** @param {Omit<import("./index.js").Context, "viewer">} context */
export function createViewer(context) {
  const { api } = context;
  const stage = el("div", { class: "viewer-stage" });
  const words = el("span", { class: "viewer-words", "aria-live": "polite" });
  const save = el("a", { class: "button small", download: "" }, "Save");
  const load = button({ icon: "load", text: "Load workflow", class: "small", onClick: openShown });
  const previous = button({
    icon: "left",
    label: "Picture before",
    class: "viewer-step",
    onClick: () => step(-1),
  });
  const next = button({
    icon: "right",
    label: "Next picture",
    class: "viewer-step next",
    onClick: () => step(1),
  });
  const close = button({
    icon: "close",
    label: "Close",
    class: "icon-button",
    onClick: () => dialog.close(),
  });
  const bar = el("div", { class: "viewer-bar" }, words, load, save, close);
  const dialog = el(
    "dialog",
    { class: "viewer", "aria-label": "Picture" },
    bar,
    stage,
    previous,
    next,
  );
  document.body.append(dialog);
  /** @type {Picture[]} */
  let pictures = [];
  let at = 0;

  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.target instanceof HTMLInputElement) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target === stage) dialog.close();
  });

  /** @param {number} by */
  function step(by) {
    const to = at + by;
    if (to < 0 || to >= pictures.length) return;
    at = to;
    draw();
  }

  function draw() {
    const picture = pictures[at];
    stage.replaceChildren(imageOf(picture));
    words.textContent = `${picture.file.filename} · ${picture.words}`;
    save.href = api.view(picture.file);
    save.download = picture.file.filename;
    load.hidden = picture.jobId === undefined;
    save.hidden = false;
    previous.hidden = at === 0;
    next.hidden = at >= pictures.length - 1;
  }

  /** @param {Picture} picture */
  function imageOf(picture) {
    const image = el("img", {
      src: api.view(picture.file),
      alt: picture.words,
      class: "viewer-image",
    });
    image.addEventListener("load", () => {
      image.classList.toggle(
        "crisp",
        Math.max(image.naturalWidth, image.naturalHeight) <= SMALL_PX,
      );
    });
    return image;
  }

  async function openShown() {
    const id = pictures[at]?.jobId;
    dialog.close();
    if (id) await openJob(/** @type {any} */ (context), id).catch(context.notices.tell);
  }

  function open() {
    if (!dialog.open) dialog.showModal();
  }

  return {
    /**
     * @param {Picture[]} shown
     * @param {number} [first]
     */
    show(shown, first = 0) {
      pictures = shown;
      at = Math.max(0, first);
      draw();
      open();
    },

    /**
     * One picture over another; the slider says how much of the first is seen.
     * @param {Picture} before
     * @param {Picture} after
     */
    compare(before, after) {
      pictures = [];
      const top = imageOf(before);
      top.classList.add("compare-top");
      const line = el("div", { class: "compare-line" });
      const slider = el("input", {
        type: "range",
        min: 0,
        max: 100,
        step: 0.5,
        value: 50,
        class: "compare-slider",
        "aria-label": "How much of the first picture is seen",
      });
      const frame = el("div", { class: "compare" }, imageOf(after), top, line, slider);
      const cut = () => {
        top.style.clipPath = `inset(0 ${100 - Number(slider.value)}% 0 0)`;
        line.style.left = `${slider.value}%`;
      };
      slider.addEventListener("input", cut);
      cut();
      stage.replaceChildren(frame);
      words.textContent = `${before.file.filename}  |  ${after.file.filename}`;
      load.hidden = save.hidden = previous.hidden = next.hidden = true;
      open();
      slider.focus();
    },
  };
}
