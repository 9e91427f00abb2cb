/** The canvas: links and far nodes drawn, near nodes as elements, one frame at a time. */

import { boundsOf, measure } from "../graph/layout.js";
import { el } from "../panels/dom.js";
import { readTheme } from "./colours.js";
import { drawScene } from "./draw.js";
import { geometryOf } from "./geometry.js";
import { createNodeView, structureOf } from "./node_view.js";
import { fitted, toWorld, zoomAt } from "./viewport.js";

const FAR_SCALE = 0.4;
// For making elements in each frame: at most so long, and so many.
const MAKE_MS = 24;
const MAKE_MOST = 12;
const MARGIN_PX = 160; // elements are made this far outside the screen
const POOL_SIZE = 8; // unused elements of one structure
const SETTLE_MS = 250;
const NO_PROBLEMS = /** @type {import("../run/problems.js").Problem[]} */ ([]);

/**
 * @typedef {import("../store.js").Viewport} Viewport
 * @typedef {import("./node_view.js").NodeView} NodeView
 * @typedef {import("../graph/document.js").Node} Node
 * @typedef {{ids: ReadonlySet<string>, dx: number, dy: number}} Moved
 * @typedef {(context: CanvasRenderingContext2D, theme: import("./colours.js").Theme,
 *   scale: number) => void} Overlay
 */

/**
 * @param {object} parts
 * @param {HTMLElement} parts.root
 * @param {import("../store.js").Store} parts.store
 * @param {import("../run/jobs.js").createRun extends (...args: any) => infer R ? R : never} parts.run
 * @param {import("./node_view.js").NodeHost} parts.host
 */
export function createScene({ root, store, run, host }) {
  const canvas = el("canvas", { class: "ground", "aria-hidden": "true" });
  const layer = el("div", { class: "nodes" });
  root.append(canvas, layer, el("div", { class: "shield" }));
  const context = /** @type {CanvasRenderingContext2D} */ (
    canvas.getContext("2d", { alpha: false })
  );
  /** @type {Map<string, NodeView>} */
  const views = new Map();
  /** @type {Map<string, NodeView[]>} by structure; out of the page, so that nothing finds them */
  const pool = new Map();
  /** @type {Map<string, string>} */
  const structures = new Map();
  /** @type {Map<string, any>} */
  const states = new Map();
  /** @type {Map<string, import("../run/problems.js").Problem[]> | null} */
  let problems = null;
  /** @type {Set<() => void>} */
  const followers = new Set();
  let view = store.get().viewport;
  let tabId = store.get().tabId;
  let theme = readTheme(root);
  let geometry = geometryOf(store.get().document, store.get().specs);
  /** @type {Moved | null} */
  let moved = null;
  /** @type {Overlay | null} */
  let overlay = null;
  let isAsked = false;
  let settleTimer = 0;
  let [width, height, ratio] = [0, 0, 1];
  let isStale = true; // elements may be out of date
  let isGridShown = true;
  let isMoving = false;
  let isFitted = false; // the whole is shown: it stays so when the window changes

  function requestFrame() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(frame);
  }

  function frame() {
    isAsked = false;
    const { document, specs, selection } = store.get();
    const isFar = view.scale < FAR_SCALE;
    layer.style.transform = `scale(${view.scale}) translate(${-view.x}px, ${-view.y}px)`;
    layer.classList.toggle("far", isFar);
    if (!isFar || !isMoving) setReachable(!isFar);
    const seen = boxesIn(isFar ? 40 : MARGIN_PX / view.scale);
    const plain = isFar ? seen : syncViews(seen);
    const stateOf = (/** @type {string} */ id) => stateNow(id)?.state ?? "";
    drawScene({
      context,
      width,
      height,
      ratio,
      view,
      theme,
      geometry,
      plain,
      selection,
      moved,
      stateOf,
      isFar,
      document,
      specs,
      isGridShown,
    });
    overlay?.(context, theme, view.scale);
    for (const follower of followers) follower();
  }

  /** Whether keys get to the nodes, which are not seen when far. @param {boolean} isReachable */
  function setReachable(isReachable) {
    if (layer.inert === !isReachable) return;
    if (!isReachable && layer.contains(document.activeElement)) root.focus({ preventScroll: true });
    layer.inert = !isReachable;
  }

  /** @param {number} margin */
  function boxesIn(margin) {
    const [left, top] = [view.x - margin, view.y - margin];
    const right = view.x + width / view.scale + margin;
    const bottom = view.y + height / view.scale + margin;
    const { ids, dx = 0, dy = 0 } = moved ?? {};
    return geometry.boxes.filter((box) => {
      const isMoved = ids?.has(box.id);
      const x = isMoved ? box.x + dx : box.x;
      const y = isMoved ? box.y + dy : box.y;
      return x < right && x + box.width > left && y < bottom && y + box.height > top;
    });
  }

  /** @param {string} id */
  function stateNow(id) {
    if (!states.has(id)) states.set(id, run.nodeState(id));
    return states.get(id);
  }

  /** @param {string} id */
  function problemsOf(id) {
    problems ??= Map.groupBy(run.problems(), (problem) => problem.nodeId ?? "");
    return problems.get(id) ?? NO_PROBLEMS;
  }

  /** @param {Node} node */
  function frameOf(node) {
    const { document, specs, selection } = store.get();
    const spec = specs.get(node.type);
    return {
      document,
      node,
      spec,
      layout: measure(node, spec),
      isSelected: selection.has(node.id),
      isDark: theme.isDark,
      state: stateNow(node.id),
      problems: problemsOf(node.id),
    };
  }

  /**
   * Make, update and put away elements; gives the boxes that have none yet. While the view moves
   * none comes or goes: the browser would make all layers anew, and look for forms to fill in.
   * @param {import("./geometry.js").Box[]} seen
   */
  function syncViews(seen) {
    const wanted = new Set(seen.map((box) => box.id));
    for (const [id, old] of views) {
      if (!isMoving && !wanted.has(id) && !isKept(old, id)) putAway(id, old);
    }
    const start = performance.now();
    /** @type {import("./geometry.js").Box[]} */
    const plain = [];
    let made = 0;
    for (const box of seen) {
      const node = box.node;
      const old = views.get(box.id);
      if (old && !isStale) continue;
      const now = frameOf(node);
      const structure = structureOf(node, now.layout);
      if (old && structures.get(box.id) === structure) {
        old.update(now);
        continue;
      }
      const hasFocus = old?.element.contains(document.activeElement) ?? false;
      if (old) putAway(box.id, old);
      const isLate = made >= MAKE_MOST || (made > 0 && performance.now() - start > MAKE_MS);
      if ((isMoving || isLate) && !hasFocus) {
        plain.push(box);
        continue;
      }
      made += 1;
      show(box.id, structure, now);
      if (hasFocus) views.get(box.id)?.element.focus({ preventScroll: true });
    }
    isStale = false;
    if (plain.length > 0 && !isMoving) {
      isStale = true;
      requestFrame();
    }
    return plain;
  }

  /**
   * An element that holds the focus or is moved stays where it is.
   * @param {NodeView} old
   * @param {string} id
   */
  function isKept(old, id) {
    if (!geometry.byId.has(id)) return false;
    return old.element.contains(document.activeElement) || Boolean(moved?.ids.has(id));
  }

  /**
   * @param {string} id
   * @param {string} structure
   * @param {import("./node_view.js").Frame} now
   */
  function show(id, structure, now) {
    const spare = pool.get(structure)?.pop();
    const made = spare ?? createNodeView(host, now);
    if (spare) spare.update(now);
    views.set(id, made);
    structures.set(id, structure);
    layer.append(made.element);
    if (moved?.ids.has(id)) made.shift(moved.dx, moved.dy);
  }

  /**
   * @param {string} id
   * @param {NodeView} old
   */
  function putAway(id, old) {
    const structure = /** @type {string} */ (structures.get(id));
    views.delete(id);
    structures.delete(id);
    const spares = pool.get(structure) ?? [];
    pool.set(structure, spares);
    old.element.remove();
    if (spares.length < POOL_SIZE) spares.push(old);
  }

  function rest() {
    clearTimeout(settleTimer);
    isMoving = false;
    layer.classList.remove("moving");
  }

  function settle() {
    rest();
    store.setViewport(view);
  }

  /**
   * What another tab showed goes at once: its fields must not change the document that is shown now.
   * @param {Viewport} next
   */
  function showTab(next) {
    rest();
    for (const [id, old] of views) putAway(id, old);
    view = next;
    isFitted = false;
    states.clear();
    problems = null;
  }

  /** Be elsewhere at once, without a movement. @param {Viewport} next */
  function jump(next) {
    view = next;
    isFitted = false;
    requestFrame();
    settle();
  }

  /** @param {Viewport} next */
  function setView(next) {
    view = next;
    isFitted = false;
    store.keepViewport(view);
    requestFrame();
    clearTimeout(settleTimer);
    settleTimer = window.setTimeout(settle, SETTLE_MS);
    if (!isMoving) layer.classList.add("moving"); // scaled as a picture until it rests
    isMoving = true;
  }

  /** Show these nodes as a whole; all of them when none are given. @param {Iterable<string>} [ids] */
  function fit(ids) {
    const { document, specs } = store.get();
    const all = ids
      ? [...ids].flatMap((id) => document.nodes.get(id) ?? [])
      : [...document.nodes.values()];
    const box = boundsOf(all, specs);
    if (!box || width === 0) return;
    jump(fitted(box, width, height, ids ? 1.2 : 1));
    isFitted = !ids;
  }

  function resize() {
    const box = root.getBoundingClientRect();
    ratio = Math.min(2, window.devicePixelRatio || 1);
    [width, height] = [box.width, box.height];
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    if (isFitted) fit();
    requestFrame();
  }

  function refreshTheme() {
    theme = readTheme(root);
    isStale = true;
    requestFrame();
  }

  store.subscribe((state, before) => {
    if (state.tabId !== tabId) {
      tabId = state.tabId;
      showTab(state.viewport);
    }
    if (state.document !== before.document || state.specs !== before.specs) {
      geometry = geometryOf(state.document, state.specs);
    }
    isStale = true;
    requestFrame();
  });
  run.subscribe((changes) => {
    if (!changes.has("nodes") && !changes.has("problems")) return;
    states.clear();
    problems = null;
    isStale = true;
    requestFrame();
  });
  new ResizeObserver(resize).observe(root);
  resize();

  return {
    root,
    layer,
    requestFrame,
    refreshTheme,
    setView,
    get view() {
      return view;
    },
    get size() {
      return { width, height };
    },
    get geometry() {
      return geometry;
    },
    get theme() {
      return theme;
    },
    get moved() {
      return moved;
    },
    /** Whether the view moves or something waits to be drawn. */
    get isBusy() {
      return isAsked || isMoving;
    },
    stateNow,
    viewOf: (/** @type {string} */ id) => views.get(id),

    /** @param {boolean} shown */
    showGrid(shown) {
      isGridShown = shown;
      requestFrame();
    },

    /** The world point of a pointer event. @param {{clientX: number, clientY: number}} event */
    point(event) {
      const box = root.getBoundingClientRect();
      return toWorld(view, event.clientX - box.left, event.clientY - box.top);
    },

    /** The point of the page where a world point is seen. @param {number} x @param {number} y */
    onScreen(x, y) {
      const box = root.getBoundingClientRect();
      return [box.left + (x - view.x) * view.scale, box.top + (y - view.y) * view.scale];
    },

    /**
     * Show nodes elsewhere while they are dragged; null shows them where they are.
     * @param {Moved | null} next
     */
    setMoved(next) {
      const before = moved;
      moved = next;
      for (const id of next?.ids ?? before?.ids ?? []) {
        views.get(id)?.shift(next?.dx ?? 0, next?.dy ?? 0);
      }
      requestFrame();
    },

    /** @param {Overlay | null} next drawn over everything on the canvas */
    setOverlay(next) {
      overlay = next;
      requestFrame();
    },

    /** @param {((id: string, socket: import("../graph/layout.js").Socket, isOutput: boolean) => boolean) | null} doesFit */
    markSockets(doesFit) {
      layer.classList.toggle("linking", doesFit !== null);
      for (const [id, one] of views) {
        one.mark(doesFit && ((socket, isOutput) => doesFit(id, socket, isOutput)));
      }
    },

    /** @param {number} factor @param {number} [x] @param {number} [y] */
    zoom(factor, x = width / 2, y = height / 2) {
      setView(zoomAt(view, factor, x, y));
    },

    fit,

    /** Bring a node into sight and give it the focus. @param {string} id */
    focus(id) {
      const box = geometry.byId.get(id);
      if (!box) return;
      const right = view.x + width / view.scale;
      const bottom = view.y + height / view.scale;
      const isIn =
        box.x >= view.x &&
        box.y >= view.y &&
        box.x + Math.min(box.width, width / view.scale) <= right &&
        box.y + 60 <= bottom;
      if (!isIn || view.scale < FAR_SCALE) {
        const scale = Math.max(view.scale, 0.7);
        setView({
          x: box.x + box.width / 2 - width / scale / 2,
          y: box.y + Math.min(box.height, height / scale) / 2 - height / scale / 2,
          scale,
        });
      }
      const node = store.get().document.nodes.get(id);
      if (node && !views.has(id)) {
        const now = frameOf(node);
        show(id, structureOf(node, now.layout), now);
      }
      setReachable(true);
      views.get(id)?.element.focus({ preventScroll: true });
    },

    /** Called after each frame. @param {() => void} follower */
    onFrame: (follower) => void followers.add(follower),

    counts: () => ({ elements: layer.getElementsByTagName("*").length, views: views.size }),
  };
}

/** @typedef {ReturnType<typeof createScene>} Scene */
