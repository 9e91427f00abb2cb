/** Putting nodes into the shown workflow from outside the canvas. */

import { addNode, setValue } from "../graph/document.js";

export const NODE_DRAG = "application/x-weft-node";

/**
 * Put a node near the middle of what is seen, select it, and give its id.
 * @param {import("./index.js").Context} context
 * @param {string} type
 * @param {{values?: Record<string, any>, at?: readonly [number, number]}} [more]
 * @returns {string}
 */
export function placeNode({ store, notices }, type, { values = {}, at } = {}) {
  const { specs, document } = store.get();
  const spec = specs.get(type);
  const made = addNode(document, type, spec, at ?? freePlace(store.get()));
  let next = made.document;
  for (const [name, value] of Object.entries(values))
    next = setValue(next, made.id, spec, name, value);
  store.edit(`Add ${spec?.title ?? type}`, () => next, { select: [made.id] });
  notices.announce(`Added ${spec?.title ?? type}`);
  return made.id;
}

/** The middle of the window, a little aside for each node that stands there already. */
function freePlace(/** @type {import("../store.js").State} */ { viewport, document }) {
  const x = viewport.x + window.innerWidth / 2 / viewport.scale - 120;
  let y = viewport.y + window.innerHeight / 2 / viewport.scale - 80;
  let left = x;
  const isTaken = () =>
    [...document.nodes.values()].some(
      (n) => Math.abs(n.pos[0] - left) < 12 && Math.abs(n.pos[1] - y) < 12,
    );
  while (isTaken()) {
    left += 24;
    y += 24;
  }
  return /** @type {const} */ ([Math.round(left), Math.round(y)]);
}
