/** The template gallery: ready workflows that the built-in model runs, with their pictures. */

import { arrowKeys, el } from "./dom.js";

const FOLDER = "templates";

/**
 * @typedef {object} Template
 * @property {string} id its file is `id`.json, its picture `id`.webp
 * @property {string} title
 * @property {string} group
 * @property {string} text what it does
 * @property {{node: string, input: string, values: string}[]} [grid] its axes, if it is a grid
 * @property {string[]} [inputs] pictures that it reads, put into the input folder when it is opened
 */

/**
 * @param {import("./index.js").Context} context
 * @returns {import("./index.js").Panel}
 */
export function templatesPanel({ api, store, notices, commands }) {
  const list = el("div", { class: "templates" });
  const element = el("div", { class: "panel-body" }, list);
  let hasLoaded = false;
  arrowKeys(list, ".template", 2);

  async function load() {
    try {
      /** @type {Template[]} */
      const templates = await api.pageFile(`${FOLDER}/list.json`);
      hasLoaded = true;
      draw(templates);
    } catch (error) {
      notices.tell(error);
    }
  }

  /** @param {Template[]} templates */
  function draw(templates) {
    const groups = [...new Set(templates.map((template) => template.group))];
    list.replaceChildren(
      ...groups.map((group) =>
        el(
          "section",
          {},
          el("h3", {}, group),
          el(
            "div",
            { class: "template-cards" },
            templates.filter((t) => t.group === group).map(makeCard),
          ),
        ),
      ),
    );
    const first = /** @type {HTMLElement | null} */ (list.querySelector(".template"));
    if (first) first.tabIndex = 0;
  }

  /** @param {Template} template */
  function makeCard(template) {
    const { id, title, text } = template;
    const open = () => use(template).catch(notices.tell);
    const picture = el("img", {
      src: api.address(`${FOLDER}/${id}.webp`),
      alt: "",
      loading: "lazy",
      class: "crisp",
    });
    return el(
      "button",
      { type: "button", class: "template", tabindex: -1, title: text, on: { click: open } },
      el("span", { class: "template-picture" }, picture),
      el("span", { class: "row-title" }, title),
      el("span", { class: "row-note" }, text),
    );
  }

  /** @param {Template} template */
  async function use({ id, title, grid, inputs = [] }) {
    const [workflow] = await Promise.all([
      api.pageFile(`${FOLDER}/${id}.json`),
      ...inputs.map(putInput),
    ]);
    if (inputs.length > 0) await commands.run("app.refresh");
    store.load(workflow, { name: title, isSaved: true });
    commands.run("view.fit");
    notices.announce(`Opened the template ${title}`);
    if (grid) commands.run("run.grid", { axes: grid });
  }

  /** @param {string} name of a picture beside the templates */
  async function putInput(name) {
    const answer = await fetch(api.address(`${FOLDER}/${name}`));
    await api.upload(await answer.blob(), name, { overwrite: true });
  }

  commands.add({
    id: "templates.open",
    title: "Open a template",
    run: () => commands.run("panel.templates"),
  });
  return {
    id: "templates",
    title: "Templates",
    icon: "templates",
    element,
    onShow: () => (hasLoaded ? undefined : void load()),
  };
}
