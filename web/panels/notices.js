/** What the editor says: toasts, the banner of a lost connection, and text for screen readers. */

import { button, el } from "./dom.js";

const SHOWN_MS = 5000;
const SHOWN_ERROR_MS = 12000;
const MAX_TOASTS = 4;
const OFFLINE_AFTER_MS = 1200; // a short gap is not worth a banner

/**
 * @typedef {{label: string, run: () => void}} Action
 * @typedef {{kind?: "info" | "good" | "bad", hint?: string, action?: Action}} ToastOptions
 * @typedef {ReturnType<typeof createNotices>} Notices
 */

/** @param {HTMLElement} host where they are shown */
export function createNotices(host) {
  const polite = el("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const toasts = el("div", { class: "toasts", role: "region", "aria-label": "Messages" });
  const banner = el("div", { class: "banner", role: "alert", hidden: true });
  host.append(polite, toasts, banner);
  let offlineTimer = 0;

  /** @param {string} words for screen readers only */
  function announce(words) {
    if (polite.textContent !== words) polite.textContent = words;
  }

  /**
   * @param {string} message
   * @param {ToastOptions} [options]
   */
  function toast(message, { kind = "info", hint = "", action } = {}) {
    for (const same of toasts.querySelectorAll(".toast")) {
      if (/** @type {HTMLElement} */ (same).dataset.message === message) same.remove();
    }
    const close = () => element.remove();
    const words = el(
      "div",
      { class: "toast-words" },
      el("strong", {}, message),
      hint && el("p", {}, hint),
    );
    const act = () => {
      action?.run();
      close();
    };
    const element = el(
      "div",
      { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status", data: { message } },
      words,
      action && button({ text: action.label, class: "small", onClick: act }),
      button({ icon: "close", label: "Dismiss", class: "icon-button", onClick: close }),
    );
    toasts.append(element);
    while (toasts.children.length > MAX_TOASTS) toasts.firstElementChild?.remove();
    let timer = 0;
    const wait = () => {
      timer = window.setTimeout(close, kind === "bad" ? SHOWN_ERROR_MS : SHOWN_MS);
    };
    element.addEventListener("mouseenter", () => clearTimeout(timer));
    element.addEventListener("mouseleave", wait);
    wait();
  }

  /** Tell a failure in its own words. @param {any} error */
  function tell(error) {
    toast(error?.message || String(error), { kind: "bad", hint: error?.hint ?? "" });
  }

  /** @param {boolean} isOnline @param {string} [worker] the phase of the computing part */
  function connection(isOnline, worker = "ready") {
    clearTimeout(offlineTimer);
    offlineTimer = 0;
    if (isOnline && worker !== "starting" && worker !== "stopped") {
      banner.hidden = true;
      return;
    }
    const words = !isOnline ? LOST : worker === "stopped" ? WORKER_FAILED : WORKER_STARTS;
    const show = () => {
      banner.replaceChildren(el("span", { class: "spinner" }), el("span", {}, words));
      banner.hidden = false;
    };
    if (banner.hidden) offlineTimer = window.setTimeout(show, OFFLINE_AFTER_MS);
    else show();
  }

  return { announce, toast, tell, connection };
}

const LOST =
  "The connection to the server is lost. Your work is kept; the page connects again by itself.";
const WORKER_STARTS = "The part that computes is starting. Jobs wait until it is ready.";
const WORKER_FAILED = "The part that computes does not start. The server's log tells why.";
