/** A look at what a socket holds: while Alt is held over it, or until it is closed. */

import { TITLE_PX, measure } from "../graph/layout.js";
import { titleOf } from "../graph/document.js";
import { button, el, soon } from "../panels/dom.js";
import { typeColour } from "./colours.js";
import { endOf } from "./gestures/connect.js";

/**
 * @typedef {import("./gestures/connect.js").End} End
 * @typedef {import("../run/peek.js").Look} Look
 */

const GAP_PX = 14;
const REFRESH_MS = 400;
const [CURVE_WIDTH, CURVE_HEIGHT] = [288, 96];
const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {object} parts
 * @param {import("./scene.js").Scene} parts.scene
 * @param {import("../store.js").Store} parts.store
 * @param {import("../panels/index.js").Context["run"]} parts.run
 * @param {import("../commands.js").Commands} parts.commands
 * @param {(place: import("../run/peek.js").Place) => Promise<Look>} parts.look
 */
export function followPeek({ scene, store, run, commands, look }) {
  const dot = el("span", { class: "peek-dot" });
  const title = el("strong", { class: "peek-title" });
  const words = el("p", { class: "peek-words" });
  const body = el("div", { class: "peek-body", id: "peek-body" });
  const close = button({ icon: "close", label: "Close", class: "peek-close", onClick: hide });
  const card = el(
    "div",
    { class: "peek", role: "dialog", tabindex: "-1", hidden: true, "aria-describedby": body.id },
    el("header", {}, dot, title, close),
    body,
    words,
  );
  document.body.append(card);
  /** @type {End | null} */
  let shown = null;
  let isPinned = false;
  let asked = 0;
  /** @type {HTMLElement | null} */
  let before = null;
  /** @type {HTMLElement | null} */
  let hovered = null;

  /**
   * @param {End} end
   * @param {boolean} pins whether it stays, with the focus in it
   */
  async function show(end, pins) {
    const { document: doc, specs } = store.get();
    const node = doc.nodes.get(end.id);
    if (!node) return hide();
    const isSame = shown?.id === end.id && shown.name === end.name && shown.isOutput === end.isOutput;
    if (card.hidden) before = /** @type {HTMLElement | null} */ (document.activeElement);
    shown = end;
    isPinned = pins;
    const name = end.name || end.type;
    title.textContent = `${titleOf(doc, node, specs.get(node.type))} · ${name}`;
    dot.style.setProperty("--type", typeColour(end.type, scene.theme.isDark));
    card.setAttribute("aria-label", `${end.isOutput ? "Output" : "Input"} ${title.textContent}`);
    card.classList.toggle("pinned", pins);
    close.hidden = !pins;
    if (!isSame || card.hidden) {
      body.replaceChildren();
      words.textContent = "Looking …";
    }
    card.hidden = false;
    place(end);
    if (pins) card.focus({ preventScroll: true });
    await fill(end);
  }

  /** @param {End} end */
  async function fill(end) {
    const turn = ++asked;
    /** @type {Look} */
    let found;
    try {
      found = await look(end);
    } catch (error) {
      const { message, hint = "" } = /** @type {any} */ (error);
      found = { words: `${message} ${hint}`.trim(), seconds: 0, value: null };
    }
    if (turn !== asked || card.hidden) return;
    body.replaceChildren(...entriesOf(found));
    words.textContent = closingWords(found);
    place(end);
  }

  function hide() {
    if (card.hidden) return;
    const hadFocus = card.contains(document.activeElement);
    card.hidden = true;
    shown = null;
    asked += 1;
    if (hadFocus && before?.isConnected) before.focus({ preventScroll: true });
  }

  /** Beside its socket, and whole within the window. @param {End} end */
  function place(end) {
    const box = socketElement(end)?.getBoundingClientRect() ?? nodeBox(end.id);
    if (!box) return;
    const { offsetWidth: width, offsetHeight: height } = card;
    const right = box.right + GAP_PX;
    const left = box.left - GAP_PX - width;
    const goesRight = end.isOutput ? right + width < window.innerWidth - 8 : left < 8;
    const x = goesRight ? right : left;
    card.style.left = `${Math.max(8, Math.min(x, window.innerWidth - width - 8))}px`;
    card.style.top = `${Math.max(8, Math.min(box.top - 20, window.innerHeight - height - 8))}px`;
  }

  /** @param {string} id */
  function nodeBox(id) {
    const box = scene.geometry.byId.get(id);
    if (!box) return null;
    const [left, top] = scene.onScreen(box.x, box.y);
    const right = left + box.width * scene.view.scale;
    return { left, right, top: top + TITLE_PX };
  }

  /** @param {End} end */
  function socketElement(end) {
    const sockets = scene.viewOf(end.id)?.element.querySelectorAll("[data-socket]") ?? [];
    return /** @type {HTMLElement[]} */ ([...sockets]).find(
      ({ dataset }) =>
        dataset.name === end.name && (dataset.socket === "out") === end.isOutput,
    );
  }

  /** The sockets of a node: outputs, then inputs. @param {string} id @returns {End[]} */
  function endsOf(id) {
    const { document: doc, specs } = store.get();
    const node = doc.nodes.get(id);
    if (!node) return [];
    const { inputs, outputs } = measure(node, specs.get(node.type));
    const end = (/** @type {boolean} */ isOutput) => (/** @type {any} */ socket) => ({
      id,
      isOutput,
      slot: socket.index,
      name: socket.name,
      type: socket.type,
    });
    return [...outputs.map(end(true)), ...inputs.map(end(false))];
  }

  /** @param {End} [end] */
  function command(end) {
    const focused = /** @type {HTMLElement | null} */ (
      document.activeElement?.closest("[data-socket]")
    );
    const under = hovered?.isConnected ? hovered : focused;
    const wanted = end ?? (under ? endOf(under) : endsOf([...store.get().selection][0] ?? "")[0]);
    if (wanted) void show(wanted, true);
  }

  card.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key === "Escape" || key.toLowerCase() === "i") hide();
    else if (key.startsWith("Arrow") && shown) {
      const ends = endsOf(shown.id);
      const at = ends.findIndex((e) => e.name === shown?.name && e.isOutput === shown.isOutput);
      const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
      void show(ends[(at + step + ends.length) % ends.length], true);
    } else if (key !== "Tab") return;
    if (key !== "Tab") event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!card.contains(/** @type {Node} */ (event.target))) hide();
  });
  scene.root.addEventListener("pointerover", (event) => {
    hovered = /** @type {HTMLElement} */ (event.target).closest("[data-socket]");
    if (hovered && event.altKey && !isPinnedOpen()) void show(endOf(hovered), false);
    else if (!hovered && !card.hidden && !isPinned) hide();
  });
  scene.root.addEventListener("pointerleave", () => {
    hovered = null;
  });
  window.addEventListener("keydown", (event) => {
    if (event.key !== "Alt" || !hovered?.isConnected || isPinnedOpen()) return;
    event.preventDefault(); // or the browser's menu takes the focus when it is let go
    if (!event.repeat) void show(endOf(hovered), false);
  });
  window.addEventListener("keyup", (event) => {
    if (event.key === "Alt" && !isPinned) hide();
  });
  window.addEventListener("blur", () => {
    if (!isPinned) hide();
  });
  const isPinnedOpen = () => !card.hidden && isPinned;
  const again = soon(() => shown && void fill(shown), REFRESH_MS);
  store.subscribe((state, old) => {
    if (shown && state.document !== old.document) again();
    if (shown && (state.tabId !== old.tabId || !state.document.nodes.has(shown.id))) hide();
  });
  run.subscribe((changes) => {
    if (shown && changes.has("nodes")) again();
  });
  commands.add({
    id: "node.peek",
    title: "Look at what a socket holds",
    group: "Nodes",
    shortcut: "I",
    when: () => Boolean(hovered?.isConnected) || store.get().selection.size > 0,
    run: command,
  });
}

/** @param {Look} found */
function closingWords({ words, value, seconds }) {
  if (!value) return words;
  const where = /memory|disk/.exec(words)?.[0];
  const parts = [where ? `from the ${where === "disk" ? "disk" : "memory"}` : words];
  if (seconds >= 0.0005)
    parts.push(`took ${seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`}`);
  return parts.join(", ");
}

/** @param {Look} found @returns {HTMLElement[]} */
function entriesOf({ value }) {
  if (!value) return [];
  const parts = value.entries.map(entryOf);
  if (value.count > value.entries.length) {
    const left = value.count - value.entries.length;
    parts.push(el("p", { class: "peek-words" }, `and ${left} more of ${value.count}`));
  }
  return parts;
}

/** @param {import("../run/peek.js").Entry} entry */
function entryOf({ facts, pictures = [], text, curve, tokens, is_grid: isGrid = false }) {
  const kind = isGrid ? "peek-pictures grid" : pictures.length > 1 ? "peek-pictures several" : "peek-pictures";
  return el(
    "section",
    { class: "peek-entry" },
    pictures.length > 0 && el("div", { class: kind }, pictures.map(pictureOf)),
    curve && curveOf(curve),
    tokens && tokensOf(tokens),
    text !== undefined && el("pre", { class: "peek-text", tabindex: "0" }, text || "(empty)"),
    facts.length > 0 &&
      el("dl", { class: "facts" }, facts.flatMap(([name, told]) => [el("dt", {}, name), el("dd", {}, told)])),
  );
}

/**
 * Each token with its weight where that is not 1; a line between two chunks.
 * @param {import("../run/tokens.js").Tokens["tokens"]} tokens
 */
function tokensOf(tokens) {
  const list = el("p", { class: "peek-tokens", tabindex: "0", "aria-label": "Tokens" });
  let before = 0;
  for (const [text, weight, chunk] of tokens) {
    if (chunk !== before) list.append(el("span", { class: "peek-chunk" }, `chunk ${chunk + 1}`));
    before = chunk;
    const told = weight === 1 ? null : el("sup", {}, String(Math.round(weight * 100) / 100));
    const kind = weight > 1 ? "token strong" : weight < 1 ? "token weak" : "token";
    list.append(el("span", { class: kind }, text.trim() || text, told), " ");
  }
  return list;
}

/** @param {import("../run/peek.js").Picture} picture */
function pictureOf({ mime, data, words }) {
  const image = el("img", { src: `data:${mime};base64,${data}`, alt: words });
  return el("figure", { title: words }, image, el("figcaption", {}, words));
}

/** A falling line from the first number to the last. @param {(number | null)[]} numbers */
function curveOf(numbers) {
  const finite = /** @type {number[]} */ (numbers.filter((number) => number !== null));
  const [low, high] = [Math.min(0, ...finite), Math.max(...finite, Number.MIN_VALUE)];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `-4 -4 ${CURVE_WIDTH + 8} ${CURVE_HEIGHT + 8}`);
  svg.setAttribute("class", "peek-curve");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `A curve of ${numbers.length} numbers, ${low} to ${high}`);
  const points = numbers.flatMap((number, at) => {
    if (number === null) return [];
    const x = (at / Math.max(1, numbers.length - 1)) * CURVE_WIDTH;
    const y = CURVE_HEIGHT * (1 - (number - low) / (high - low || 1));
    return [[x, y]];
  });
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  svg.append(line);
  for (const [x, y] of points.length <= 60 ? points : []) {
    const mark = document.createElementNS(SVG, "circle");
    mark.setAttribute("cx", x.toFixed(1));
    mark.setAttribute("cy", y.toFixed(1));
    mark.setAttribute("r", "2.4");
    svg.append(mark);
  }
  return svg;
}
