/** Pictures on nodes: results, the chosen input file, live previews; and uploads. */

import { el, reconcile } from "../panels/dom.js";

/**
 * @typedef {import("../api/http.js").FileRef} FileRef
 * @typedef {{url: string, name: string}} Shown
 */

/**
 * The file that an image input's value names: "folder/name.png" or "name.png [output]".
 * @param {string} value
 * @returns {FileRef}
 */
export function fileOfValue(value) {
  const [, path, type = "input"] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(value) ?? [];
  const at = path.lastIndexOf("/");
  return { filename: path.slice(at + 1), subfolder: at < 0 ? "" : path.slice(0, at), type };
}

/**
 * @param {(at: number) => void} onOpen a picture was clicked
 */
export function pictureBox(onOpen) {
  const element = el("div", { class: "pictures" });
  return {
    element,
    /**
     * @param {readonly Shown[]} pictures
     * @param {string} empty words for none
     */
    update(pictures, empty) {
      element.dataset.empty = pictures.length === 0 ? empty : "";
      element.style.setProperty("--columns", String(Math.ceil(Math.sqrt(pictures.length || 1))));
      reconcile(
        element,
        pictures,
        ({ url }) => url,
        ({ url, name }) => {
          const image = el("img", { src: url, alt: name, draggable: "false", decoding: "async" });
          image.addEventListener("load", () => {
            image.classList.toggle("small", image.naturalWidth <= 128);
          });
          image.addEventListener("error", () => image.classList.add("gone"));
          const button = el("button", { class: "picture", type: "button", title: name }, image);
          button.addEventListener("click", () => {
            onOpen([...element.children].indexOf(button));
          });
          return button;
        },
      );
    },
  };
}

/**
 * A button that lets a person choose a picture to upload.
 * @param {(file: File) => void} onFile
 */
export function uploadButton(onFile) {
  const input = el("input", { type: "file", accept: "image/*", hidden: true, tabindex: "-1" });
  const button = el("button", { type: "button", class: "upload" }, "Choose a picture …");
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) onFile(file);
    input.value = "";
  });
  return el("div", { class: "widget upload-row" }, button, input);
}
