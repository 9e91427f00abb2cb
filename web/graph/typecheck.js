/** Which output fits which input, by the names of their types. */

export const ANY = "*";

/**
 * Whether a value of `output` may be linked to an input of `input`: equal names fit, `*` fits
 * everything, and a union ("IMAGE,MASK") fits what shares a member.
 * @param {string} output
 * @param {string} input
 */
export function fits(output, input) {
  if (output === input || output === ANY || input === ANY) return true;
  if (!output.includes(",") && !input.includes(",")) return false;
  const members = membersOf(input);
  return members.includes(ANY) || membersOf(output).some((m) => m === ANY || members.includes(m));
}

/**
 * The types of a union, in order.
 * @param {string} type
 */
export function membersOf(type) {
  return type
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
}
