/** Elements with their text, attributes and listeners; text never becomes HTML. */

/**
 * @typedef {string | number | Node | null | undefined | false} Child
 * @typedef {Record<string, any> & {class?: string, on?: Record<string, (event: any) => void>,
 *   data?: Record<string, string>}} Options
 */

/**
 * An element: `on` holds listeners, `data` data attributes; true and false set or leave out an
 * attribute; everything else is an attribute.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Options} [options]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "on") {
      for (const [kind, listener] of Object.entries(value))
        element.addEventListener(kind, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter(isShown));
  return element;
}

/** @param {Child} child @returns {child is string | Node} */
function isShown(child) {
  return child !== null && child !== undefined && child !== false && child !== "";
}

/**
 * A button with an icon, words, or both; `label` is its name for screen readers and its tooltip.
 * @param {{icon?: string, text?: string, label?: string, class?: string, type?: string,
 *   on?: Record<string, (event: any) => void>, onClick?: (event: MouseEvent) => void,
 *   data?: Record<string, string>, disabled?: boolean, pressed?: boolean}} options
 */
export function button({ icon: name, text, label, onClick, pressed, on, ...more }) {
  const listeners = { ...on, ...(onClick ? { click: onClick } : {}) };
  const options = {
    type: "button",
    title: label,
    "aria-label": label,
    "aria-pressed": pressed === undefined ? undefined : String(pressed),
    ...more,
    on: listeners,
  };
  return el("button", options, name ? icon(name) : null, text ?? null);
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element of a drawing, with attributes only.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} attributes
 * @param {...Node} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * A line icon of 20 × 20.
 * @param {string} name
 */
export function icon(name) {
  const attributes = { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" };
  return svg("svg", attributes, svg("path", { d: ICONS[name] ?? ICONS.dot }));
}

/** @type {Record<string, string>} */
const ICONS = {
  dot: "M10 9v2",
  nodes: "M3 4.5h5.5v4H3zM11.5 11.5H17v4h-5.5zM8.5 6.5h2.2a1.5 1.5 0 0 1 1.5 1.5v3.5",
  models: "M10 2.5l6.5 3.6v7.6L10 17.5l-6.5-3.8V6.1zM3.7 6.2L10 9.8l6.3-3.6M10 9.8v7.4",
  templates: "M3 3.5h6v7H3zM11 3.5h6v4h-6zM11 9.5h6v7h-6zM3 12.5h6v4H3z",
  files: "M3 15.5v-11h5l1.6 2H17v9z",
  queue: "M4 5h12M4 10h12M4 15h7",
  gallery: "M3 4h14v12H3zM3 13l4-4 3.4 3.4L13 10l4 4M12.6 7.4v.01",
  problems: "M10 3l7.5 13h-15zM10 8v4M10 14v.01",
  settings: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4",
  close: "M5 5l10 10M15 5L5 15",
  search: "M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM13 13l4 4",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6 4l10 6-10 6z",
  stop: "M5.5 5.5h9v9h-9z",
  again: "M15.5 8A6 6 0 1 0 16 11.5M16 4v4h-4",
  load: "M10 3v9M6 8.5l4 4 4-4M3.5 16.5h13",
  compare: "M10 2.5v15M3 5h7M3 5v10h7M13 5h4v10h-4",
  trash: "M4 5.5h12M8 5.5V3.5h4v2M5.5 5.5l.8 11h7.4l.8-11",
  up: "M10 16V4M5 9l5-5 5 5",
  down: "M10 4v12M5 11l5 5 5-5",
  drag: "M7.5 5v.01M12.5 5v.01M7.5 10v.01M12.5 10v.01M7.5 15v.01M12.5 15v.01",
  check: "M4 10.5l4 4 8-9",
  copy: "M7 7V3.5h9.5V13H13M3.5 7H13v9.5H3.5z",
  rename: "M3.5 16.5l1-4 8.6-8.6 3 3-8.6 8.6z",
  add: "M10 4v12M4 10h12",
  left: "M12.5 4l-6 6 6 6",
  right: "M7.5 4l6 6-6 6",
  undo: "M7 4L3.5 7.5 7 11M3.5 7.5H12a4.5 4.5 0 0 1 0 9H8",
  redo: "M13 4l3.5 3.5L13 11M16.5 7.5H8a4.5 4.5 0 0 0 0 9h4",
  save: "M4 3.5h9.5l3 3v10H4zM7 3.5v4h5v-4M7 16.5v-5h6.5v5",
  info: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM10 9v5M10 6v.01",
};

/**
 * Call soon, however often it is asked for meanwhile.
 * @param {() => void} work
 * @param {number} ms
 */
export function soon(work, ms = 60) {
  let timer = 0;
  return () => {
    if (timer) return;
    timer = window.setTimeout(() => {
      timer = 0;
      work();
    }, ms);
  };
}

/**
 * Make the children of a list those of `items` in their order; a row is kept while its key stays,
 * so that focus, scrolling and loaded pictures survive.
 * @template T
 * @param {HTMLElement} list
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => HTMLElement} make
 * @param {(row: HTMLElement, item: T) => void} [update]
 */
export function reconcile(list, items, keyOf, make, update) {
  const known = new Map();
  for (const row of /** @type {Iterable<HTMLElement>} */ (list.children)) {
    known.set(row.dataset.key, row);
  }
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = known.get(key);
    if (row) known.delete(key);
    else {
      row = make(item);
      row.dataset.key = key;
    }
    update?.(row, item);
    if (row === place) place = row.nextElementSibling;
    else list.insertBefore(row, place);
  }
  for (const row of known.values()) row.remove();
}

/**
 * Arrow keys, Home and End move the focus among the rows of a list; one of them takes Tab.
 * @param {HTMLElement} list
 * @param {string} selector of what takes the focus in each row
 * @param {number} [columns] of a grid
 */
export function arrowKeys(list, selector, columns = 1) {
  const rows = () => /** @type {HTMLElement[]} */ ([...list.querySelectorAll(selector)]);
  list.addEventListener("focusin", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (!target.matches(selector)) return;
    for (const row of rows()) row.tabIndex = row === target ? 0 : -1;
  });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const all = rows();
    const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
    if (at < 0) return;
    const wide = columns > 1 ? columnsOf(all) : 1;
    const to = {
      ArrowDown: at + wide,
      ArrowUp: at - wide,
      ArrowRight: columns > 1 ? at + 1 : at,
      ArrowLeft: columns > 1 ? at - 1 : at,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (to === undefined || to === at || !all[to]) return;
    event.preventDefault();
    all[to].focus();
  });
}

/** How many rows of a grid stand beside each other. @param {HTMLElement[]} all */
function columnsOf(all) {
  const top = all[0]?.offsetTop;
  const next = all.findIndex((row) => row.offsetTop !== top);
  return next < 0 ? all.length : next;
}

/** @param {number} bytes */
export function formatSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let size = bytes;
  let unit = -1;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** @param {number} ms since 1970 */
export function formatTime(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return isToday
    ? time
    : `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}
