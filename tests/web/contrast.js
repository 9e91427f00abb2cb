/**
 * The texts of the page that stand out too little from what is under them, by WCAG 2.1:
 * a ratio of at least 4.5, or of 3 for large letters. Gives one line for each.
 */
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });

  /** Any CSS colour as [r, g, b, a], 0..255 and 0..1. */
  function rgba(colour) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  }

  const over = ([r, g, b, a], under) =>
    [r, g, b].map((value, at) => value * a + under[at] * (1 - a));

  /** The colour behind an element: its own ground and those of what it stands on. */
  function groundOf(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      layers.push(rgba(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
      if (at.tagName === "DIALOG") break;
    }
    const page = rgba(getComputedStyle(document.body).backgroundColor);
    return layers.reverse().reduce((under, layer) => over(layer, under), page.slice(0, 3));
  }

  function luminance(colour) {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function ratio(a, b) {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  }

  function isSeen(element) {
    if (element.closest(":disabled, [aria-disabled=true], .unseen, option")) return false;
    for (let at = element; at; at = at.parentElement)
      if (Number(getComputedStyle(at).opacity) < 0.1) return false;
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ visibilityProperty: true }) && box.width > 1 && box.height > 1;
  }

  function hasText(element) {
    if (element.matches("input:not([type=checkbox], [type=radio], [type=range], [type=file]), textarea, select"))
      return true;
    return [...element.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  }

  /** How opaque an element is in all. */
  function opacityOf(element) {
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
    return opacity;
  }

  const weak = [];
  let count = 0;
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("svg, script") || !hasText(element) || !isSeen(element)) continue;
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const [r, g, b, a] = rgba(style.color);
    const found = ratio(over([r, g, b, a * opacityOf(element)], ground), ground);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    count += 1;
    if (found >= (isLarge ? 3 : 4.5)) continue;
    const words = (element.value ?? element.textContent ?? "").trim().slice(0, 30);
    const name = `${element.tagName.toLowerCase()}.${[...element.classList].join(".")}`;
    weak.push(`${name} “${words}” ${found.toFixed(2)}`);
  }
  return { weak: [...new Set(weak)], count };
};
