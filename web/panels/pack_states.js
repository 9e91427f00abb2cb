/** What the states of node packs are called. */

/** @type {Record<string, {words: string, isRefused: boolean}>} */
export const PACK_STATES = {
  loaded: { words: "loaded", isRefused: false },
  disabled: { words: "switched off", isRefused: false },
  not_allowed: { words: "not allowed yet", isRefused: true },
  changed: { words: "changed since it was allowed", isRefused: true },
  failed: { words: "failed", isRefused: true },
  quarantined: { words: "put aside after crashes", isRefused: true },
};
