/** What can be focused or is a control but has no name for a screen reader; one line for each. */
() => {
  const CONTROLS =
    "button, input:not([type=hidden]), select, textarea, summary, a[href], [tabindex], progress, " +
    "dialog, [role=tab], [role=option], [role=menuitem], [role=group], [role=img], canvas:not([aria-hidden])";

  function nameOf(element) {
    const ids = element.getAttribute("aria-labelledby");
    if (ids) return ids.split(" ").map((id) => document.getElementById(id)?.textContent).join(" ");
    const own = element.getAttribute("aria-label");
    if (own) return own;
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join(" ");
    if (labels.trim()) return labels;
    const isField = element.matches("input, select, textarea, progress");
    const words = isField ? "" : element.textContent;
    return words || element.getAttribute("alt") || element.title || "";
  }

  const found = [];
  let count = 0;
  for (const element of document.querySelectorAll(CONTROLS)) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    count += 1;
    if (nameOf(element).trim() === "") found.push(element.outerHTML.slice(0, 120));
  }
  return { nameless: found, count };
};
