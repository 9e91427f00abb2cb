/** Binary websocket messages: big-endian u32 kind, then what the kind says. */

const PREVIEW = 1;
const TEXT = 3;
const PREVIEW_WITH_METADATA = 4;
const IMAGE_TYPES = { 1: "image/jpeg", 2: "image/png" };

/**
 * @typedef {{kind: "preview", image: Blob, nodeId: string | null, jobId: string | null}} PreviewEvent
 * @typedef {{kind: "text", nodeId: string, text: string}} TextEvent
 */

/**
 * What a binary message holds; null for kinds that are not known.
 * @param {ArrayBuffer} buffer
 * @returns {PreviewEvent | TextEvent | null}
 */
export function parseBinary(buffer) {
  const view = new DataView(buffer);
  switch (view.getUint32(0)) {
    case PREVIEW: {
      const type = IMAGE_TYPES[/** @type {1 | 2} */ (view.getUint32(4))] ?? "image/jpeg";
      return preview(new Blob([buffer.slice(8)], { type }), null, null);
    }
    case PREVIEW_WITH_METADATA: {
      const length = view.getUint32(4);
      const head = JSON.parse(decode(buffer, 8, length));
      const image = new Blob([buffer.slice(8 + length)], { type: head.image_type });
      return preview(image, head.display_node_id, head.prompt_id);
    }
    case TEXT: {
      const length = view.getUint32(4);
      return { kind: "text", nodeId: decode(buffer, 8, length), text: decode(buffer, 8 + length) };
    }
    default:
      return null;
  }
}

/**
 * @param {Blob} image
 * @param {string | null} nodeId
 * @param {string | null} jobId
 * @returns {PreviewEvent}
 */
function preview(image, nodeId, jobId) {
  return { kind: "preview", image, nodeId, jobId };
}

/**
 * @param {ArrayBuffer} buffer
 * @param {number} start
 * @param {number} [length]
 */
function decode(buffer, start, length) {
  return new TextDecoder().decode(new Uint8Array(buffer, start, length));
}
