/** Undo and redo over immutable snapshots; knows no DOM and not what a snapshot holds. */

const MAX_STEPS = 300;
const MERGE_MS = 1200;

/**
 * @template T
 * @typedef {{label: string, before: T, after: T, merge: string, time: number}} Step
 */

/**
 * @template T
 * @param {T} start
 * @param {() => number} [now] milliseconds
 */
export function createHistory(start, now = Date.now) {
  let present = start;
  /** @type {Step<T>[]} */
  let past = [];
  /** @type {Step<T>[]} */
  let future = [];

  return {
    get present() {
      return present;
    },
    get undoLabel() {
      return past.at(-1)?.label ?? "";
    },
    get redoLabel() {
      return future.at(-1)?.label ?? "";
    },

    /**
     * Make `next` the present. Steps with the same `merge` that follow each other soon are one.
     * @param {string} label
     * @param {T} next
     * @param {string} [merge]
     */
    commit(label, next, merge = "") {
      if (next === present) return false;
      const last = past.at(-1);
      const time = now();
      if (merge && last && last.merge === merge && time - last.time < MERGE_MS && !future.length) {
        past[past.length - 1] = { ...last, after: next, time };
      } else {
        past.push({ label, before: present, after: next, merge, time });
        if (past.length > MAX_STEPS) past = past.slice(-MAX_STEPS);
      }
      future = [];
      present = next;
      return true;
    },

    /** @returns {string} what was undone; empty when there was nothing */
    undo() {
      const step = past.pop();
      if (!step) return "";
      future.push(step);
      present = step.before;
      return step.label;
    },

    /** @returns {string} what was done again; empty when there was nothing */
    redo() {
      const step = future.pop();
      if (!step) return "";
      past.push({ ...step, merge: "" });
      present = step.after;
      return step.label;
    },
  };
}
