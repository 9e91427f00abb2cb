/**
 * The texts of the page that stand out too little from what is under them, by WCAG 2.1:
 * a ratio of at least 4.5, or of 3 for large letters. Gives one line for each.
 */
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });

  /** @type {Map<string, number[]>} */
  const read = new Map();

  /** Any CSS colour as [r, g, b, a], 0..255 and 0..1. */
  function rgba(colour) {
    if (!read.has(colour)) read.set(colour, readColour(colour));
    return read.get(colour);
  }

  function readColour(colour) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  }

  const over = ([r, g, b, a], under) =>
    [r, g, b].map((value, at) => value * a + under[at] * (1 - a));

  /** @type {Map<Element, number[]>} */
  const grounds = new Map();

  /** The colour behind the text of an element. */
  function groundOf(element) {
    if (!grounds.has(element)) grounds.set(element, findGround(element));
    return grounds.get(element);
  }

  /** An element's own ground over those of what it stands on. */
  function findGround(element) {
    const own = rgba(getComputedStyle(element).backgroundColor);
    if (own[3] === 1) return own.slice(0, 3);
    const isTop = element === document.body || element.tagName === "DIALOG";
    return over(own, isTop ? page : groundOf(element.parentElement));
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

  const page = rgba(getComputedStyle(document.body).backgroundColor).slice(0, 3);
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
