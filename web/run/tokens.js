/** How many tokens a prompt has, in chunks, asked of the server and remembered; knows no DOM. */

const REMEMBERED = 200;

/**
 * @typedef {{chunks: number[], tokens: [string, number, number][], chunk_size: number,
 *   unknown_embeddings: string[]}} Tokens `tokens` are [text, weight, chunk]
 */

/** @param {(text: string) => Promise<Tokens>} ask */
export function createTokens(ask) {
  /** @type {Map<string, Promise<Tokens | null>>} */
  const known = new Map();

  /**
   * The tokens of a text; null when the server cannot tell now.
   * @param {string} text
   * @returns {Promise<Tokens | null>}
   */
  return function tokensOf(text) {
    const found = known.get(text);
    if (found) return found;
    const asked = ask(text).catch(() => {
      known.delete(text);
      return null;
    });
    known.set(text, asked);
    const oldest = known.keys().next().value;
    if (known.size > REMEMBERED && oldest !== undefined) known.delete(oldest);
    return asked;
  };
}

/**
 * The count as it stands under a prompt: "12 / 75", or "75 + 12" for more than one chunk.
 * @param {Tokens} tokens
 */
export function countWords({ chunks, chunk_size: size }) {
  return chunks.length > 1 ? chunks.join(" + ") : `${chunks[0] ?? 0} / ${size}`;
}

/** What the count means, in a sentence. @param {Tokens} tokens */
export function countSentence({ chunks, chunk_size: size, unknown_embeddings: unknown }) {
  const total = chunks.reduce((sum, count) => sum + count, 0);
  const where =
    chunks.length > 1
      ? `in ${chunks.length} chunks of up to ${size}, which are encoded one by one`
      : `of ${size} that fit into one chunk`;
  const missing = unknown.length > 0 ? ` Not found: ${unknown.join(", ")}.` : "";
  return `${total} ${total === 1 ? "token" : "tokens"} ${where}.${missing}`;
}
