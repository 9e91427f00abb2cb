/** A dataset folder: a choice, and a button that opens its pictures and captions. */

import { button } from "../panels/dom.js";
import { choiceWidget } from "./choice.js";

/**
 * @param {import("../graph/specs.js").InputSpec} spec
 * @param {import("./make_widget.js").Host} host
 * @returns {import("./make_widget.js").Widget}
 */
export function datasetWidget(spec, host) {
  const widget = choiceWidget(spec, host);
  const open = button({
    icon: "rename",
    label: "Select pictures and write captions",
    class: "widget-button",
    onClick: () => host.openDataset(),
  });
  widget.element.append(open);
  return widget;
}
