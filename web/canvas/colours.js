/** The colours of types and of the canvas, in both themes. */

/** Hue and saturation by type; unknown types get a hue from their name. */
const HUES = /** @type {Record<string, [number, number]>} */ ({
  MODEL: [255, 75],
  CLIP: [45, 90],
  VAE: [0, 75],
  CONDITIONING: [25, 90],
  LATENT: [315, 70],
  IMAGE: [205, 85],
  MASK: [140, 55],
  CONTROL_NET: [165, 70],
  SIGMAS: [75, 65],
  NOISE: [220, 25],
  SAMPLER: [180, 60],
  GUIDER: [190, 65],
  INT: [95, 45],
  FLOAT: [110, 45],
  STRING: [60, 40],
  BOOLEAN: [280, 40],
  COMBO: [225, 30],
  "*": [225, 8],
});

/** @type {Map<string, string>} */
const made = new Map();

/**
 * The colour of a type, of even lightness so that all stand out from the ground alike.
 * @param {string} type
 * @param {boolean} isDark
 */
export function typeColour(type, isDark) {
  const key = `${type}${isDark}`;
  let colour = made.get(key);
  if (!colour) {
    const [hue, saturation] = HUES[type.split(",")[0]] ?? [hueOf(type), 60];
    colour = `hsl(${hue} ${saturation}% ${isDark ? 68 : 44}%)`;
    made.set(key, colour);
  }
  return colour;
}

/** @param {string} text */
function hueOf(text) {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + letter.charCodeAt(0)) >>> 0;
  return hash % 360;
}

/**
 * Whether dark letters are read better on a colour, "#rgb" or "#rrggbb"; no for all others.
 * @param {string} colour
 */
export function isPale(colour) {
  const digits = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(colour)?.[1];
  if (!digits) return false;
  const wide = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  const [red, green, blue] = [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

/** Colours that a person can give nodes and groups: title and body, as files store them. */
export const PALETTE = [
  { name: "None", color: "", bgcolor: "" },
  { name: "Red", color: "#7a2f35", bgcolor: "#4d2327" },
  { name: "Orange", color: "#7d4a22", bgcolor: "#4f321c" },
  { name: "Yellow", color: "#6f5f1d", bgcolor: "#473e1a" },
  { name: "Green", color: "#2d6142", bgcolor: "#21402e" },
  { name: "Cyan", color: "#1f6168", bgcolor: "#1b4045" },
  { name: "Blue", color: "#2f4f86", bgcolor: "#233655" },
  { name: "Purple", color: "#5b3c86", bgcolor: "#3c2b56" },
  { name: "Grey", color: "#4a4d57", bgcolor: "#32343b" },
];

/**
 * The colours that the canvas draws with, as the style sheet has them now.
 * @param {Element} element
 */
export function readTheme(element) {
  const probe = element.ownerDocument.createElement("span");
  element.append(probe);
  const get = (/** @type {string} */ colour) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  const theme = {
    isDark: get("light-dark(#ffffff, #000000)") === "rgb(0, 0, 0)",
    ground: get("var(--canvas)"),
    grid: get("var(--grid)"),
    node: get("var(--node)"),
    title: get("var(--node-title)"),
    line: get("var(--node-line)"),
    field: get("var(--field)"),
    ink: get("var(--ink)"),
    dim: get("var(--dim)"),
    accent: get("var(--accent)"),
    bad: get("var(--bad)"),
    good: get("var(--good)"),
  };
  probe.remove();
  return theme;
}

/** @typedef {ReturnType<typeof readTheme>} Theme */
