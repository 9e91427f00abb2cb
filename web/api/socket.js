/** The websocket: connects again by itself and asks for what was missed meanwhile. */

import { parseBinary } from "./events.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/**
 * @typedef {{type: string, data: any, seq?: number}} Message
 * @typedef {import("./events.js").PreviewEvent | import("./events.js").TextEvent} BinaryEvent
 * @typedef {object} Handlers
 * @property {(message: Message) => void} onMessage
 * @property {(event: BinaryEvent) => void} onBinary
 * @property {(isOnline: boolean) => void} onState
 */

/**
 * Follow what happens to all jobs; `clientId` is who the own ones belong to.
 * @param {string} address http address of the websocket route
 * @param {string} clientId
 * @param {Handlers} handlers
 * @returns {{close: () => void}}
 */
export function followServer(address, clientId, handlers) {
  let epoch = "";
  let seq = 0;
  let waitMs = FIRST_WAIT_MS;
  let isClosed = false;
  /** @type {WebSocket | undefined} */
  let socket;

  function open() {
    const url = new URL(address);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("clientId", clientId);
    url.searchParams.set("follow", "all"); // also what other pages and programs queue
    if (epoch) url.searchParams.set("after", `${epoch}:${seq}`);
    socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = greet;
    socket.onmessage = ({ data }) => (typeof data === "string" ? read(data) : readBinary(data));
    socket.onclose = openAgain;
  }

  function greet() {
    waitMs = FIRST_WAIT_MS;
    const data = { supports_preview_metadata: true };
    socket?.send(JSON.stringify({ type: "feature_flags", data }));
    handlers.onState(true);
  }

  /** @param {string} text */
  function read(text) {
    /** @type {Message} */
    const message = JSON.parse(text);
    // The first status tells the epoch; only when nothing is asked for does its number count.
    if (message.data?.epoch && message.data.epoch !== epoch) {
      epoch = message.data.epoch;
      seq = message.seq ?? 0;
    } else if (message.seq !== undefined && message.type !== "status") {
      seq = message.seq;
    }
    handlers.onMessage(message);
  }

  /** @param {ArrayBuffer} buffer */
  function readBinary(buffer) {
    const event = parseBinary(buffer);
    if (event) handlers.onBinary(event);
  }

  function openAgain() {
    if (isClosed) return;
    handlers.onState(false);
    setTimeout(open, waitMs);
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2);
  }

  open();
  return {
    close() {
      isClosed = true;
      socket?.close();
    },
  };
}
