/** The widget of an input, by its type. */

import { choiceWidget } from "./choice.js";
import { datasetWidget } from "./dataset.js";
import { numberWidget } from "./number.js";
import { textWidget } from "./text.js";
import { toggleWidget } from "./toggle.js";

/**
 * @typedef {object} Host what a widget needs of its node
 * @property {string} label
 * @property {string} tooltip
 * @property {(value: any, isOngoing: boolean) => void} set `isOngoing`: typing or dragging goes on
 * @property {(control: string) => void} setControl
 * @property {(items: string[], anchor: HTMLElement, words?: Record<string, string>) => Promise<number>} pick from a filtered list
 * @property {(text: string) => Promise<{words: string, sentence: string} | null>} countTokens
 * @property {() => void} openDataset show the pictures and captions of a dataset input
 *
 * @typedef {{value: any, control?: string, isLinked: boolean, choices?: any[]}} Shown `choices` of
 *   a COMBO as they are now
 * @typedef {object} Widget
 * @property {HTMLElement} element
 * @property {HTMLElement} input what takes the focus
 * @property {(shown: Shown) => void} update
 */

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {Host} host
 * @returns {Widget}
 */
export function makeWidget(spec, host) {
  switch (spec.type) {
    case "INT":
    case "FLOAT":
      return numberWidget(spec, host);
    case "BOOLEAN":
      return toggleWidget(spec, host);
    case "COMBO":
      return spec.options.dataset_upload ? datasetWidget(spec, host) : choiceWidget(spec, host);
    default:
      return textWidget(spec, host);
  }
}
