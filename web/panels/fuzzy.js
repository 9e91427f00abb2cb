/** Fuzzy search: how well a text answers what was typed. */

/**
 * A score, higher is better; -1 when the typed letters are not all there in their order.
 * Whole words and beginnings count most, then letters in one run.
 * @param {string} typed
 * @param {string} text
 */
export function score(typed, text) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  let total = 0;
  for (const word of words) {
    const one = scoreWord(word, text);
    if (one < 0) return -1;
    total += one;
  }
  return total;
}

/** @param {string} word @param {string} text */
function scoreWord(word, text) {
  const low = text.toLowerCase();
  const at = low.indexOf(word);
  if (at >= 0) {
    const isStart = at === 0 || !/[a-z0-9]/.test(low[at - 1]) || isHump(text, at);
    return (
      100 + (isStart ? 60 : 0) + (at === 0 ? 40 : 0) - Math.min(50, text.length - word.length) / 2
    );
  }
  let place = 0;
  let points = 0;
  for (const letter of word) {
    const next = low.indexOf(letter, place);
    if (next < 0) return -1;
    points +=
      next === place ? 3 : next === 0 || isHump(text, next) || low[next - 1] === " " ? 4 : -0.5;
    place = next + 1;
  }
  return points > 0 ? points : -1;
}

/**
 * Where a word starts inside another, as in VAEDecode and KSampler.
 * @param {string} text
 * @param {number} at
 */
function isHump(text, at) {
  return (
    /[A-Z]/.test(text[at]) &&
    (/[^A-Z]/.test(text[at - 1] ?? "") || /[a-z]/.test(text[at + 1] ?? ""))
  );
}

/**
 * The items that answer, the best first; all in their order when nothing is typed.
 * @template T
 * @param {string} typed
 * @param {readonly T[]} items
 * @param {(item: T) => (string | [text: string, weight: number])[]} textsOf
 * @returns {T[]}
 */
export function search(typed, items, textsOf) {
  if (!typed.trim()) return [...items];
  const found = [];
  for (const item of items) {
    let best = -1;
    for (const text of textsOf(item)) {
      const [words, weight] = typeof text === "string" ? [text, 1] : text;
      best = Math.max(best, score(typed, words) * weight);
    }
    if (best > 0) found.push({ item, best });
  }
  return found.sort((a, b) => b.best - a.best).map(({ item }) => item);
}
