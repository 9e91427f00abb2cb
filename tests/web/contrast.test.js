/** The colours of the design: each pair of text and ground that is used reads well in both themes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { PALETTE, isPale } from "../../web/canvas/colours.js";

const css = readFileSync(new URL("../../web/style.css", import.meta.url), "utf8");
const TOKENS = new Map(
  [...css.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{3,6}), (#[0-9a-f]{3,6})\);/gi)].map(
    ([, name, light, dark]) => [name, { light, dark }],
  ),
);

const GROUNDS = ["ground", "canvas", "panel", "raised", "node", "node-title", "field"];
const PAIRS = [
  ...GROUNDS.flatMap((ground) => [
    ["ink", ground],
    ["dim", ground],
  ]),
  ...["panel", "raised", "canvas", "node", "node-title"].map((ground) => ["accent", ground]),
  ...["node", "node-title", "panel"].map((ground) => ["good", ground]),
  ...["node", "node-title", "panel", "field", "bad-ground"].map((ground) => ["bad", ground]),
  ["accent-ink", "accent"],
  ["ink", "bad-ground"],
  ["dim", "bad-ground"],
];

/** @param {string} hex */
function rgb(hex) {
  const digits = hex.slice(1);
  const wide = digits.length === 3 ? [...digits].map((one) => one + one).join("") : digits;
  return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
}

/** @param {number[]} colour */
function luminance(colour) {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The contrast of WCAG 2.1, 1 to 21. @param {string} a @param {string} b */
function contrast(a, b) {
  const [light, dark] = [rgb(a), rgb(b)].map(luminance).sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

/** A custom property of coloured nodes, as `.node.coloured` or `.node.coloured.pale` sets it. */
function ofColoured(selector, name) {
  const rule = css.split("\n").find((line) => line.startsWith(`${selector} {`) && line.includes("--ink"));
  return new RegExp(`--${name}: (#[0-9a-f]{3,6})`).exec(rule)[1];
}

for (const { name, color, bgcolor } of PALETTE.slice(1)) {
  test(`text on ${name} nodes`, () => {
    const isDark = !isPale(bgcolor);
    const selector = isDark ? ".node.coloured" : ".node.coloured.pale";
    for (const ground of [color, bgcolor]) {
      for (const text of ["ink", "dim"]) {
        const found = contrast(ofColoured(selector, text), ground);
        assert.ok(found >= 4.5, `${text} on ${ground}: ${found.toFixed(2)}`);
      }
    }
  });
}

test("black on white has a contrast of 21", () => assert.equal(contrast("#000", "#ffffff"), 21));

for (const theme of ["light", "dark"]) {
  for (const [text, ground] of PAIRS) {
    test(`${text} on ${ground}, ${theme}`, () => {
      const found = contrast(TOKENS.get(text)[theme], TOKENS.get(ground)[theme]);
      assert.ok(found >= 4.5, found.toFixed(2));
    });
  }
}
