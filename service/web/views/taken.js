/** Actions by head, in whatever form they come, and how likely they were. */

/**
 * The part of an action that a head is: of Dicts within Dicts it is named `arm.go`, of a Tuple `action_0`.
 * @param {any} part  @param {string} head  @param {string} [name] @returns {any}
 */
export function takenOf(part, head, name = "") {
  const isList = Array.isArray(part);
  const isDict = part !== null && typeof part === "object" && !isList;
  if (name ? name === head : head === "action" && !isDict) return part;
  if (!isList && !isDict) return undefined;
  for (const [key, inner] of Object.entries(part)) {
    const found = takenOf(inner, head, isList ? `${name || "action"}_${key}` : name ? `${name}.${key}` : key);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** How likely all that was taken is, where each head tells probabilities. @param {[string, any][]} heads  @param {any} action */
export function shareOf(heads, action) {
  return heads.reduce((share, [name, told]) => share * headShare(told, takenOf(action, name)), 1);
}

/** @param {any} told  @param {any} taken @returns {number} */
function headShare(told, taken) {
  const chosen = [taken].flat(Infinity).map(Number);
  if (told.kind === "bernoulli") return [told.probabilities].flat(Infinity).reduce((share, one, index) => share * (chosen[index] ? one : 1 - one), 1);
  if (told.kind === "multi_categorical") return told.probabilities.reduce((/** @type {number} */ share, /** @type {number[]} */ choice, /** @type {number} */ index) => share * (choice[(chosen[index] ?? NaN) - told.start[index]] ?? NaN), 1);
  return told.probabilities[(chosen[0] ?? NaN) - told.start] ?? NaN;
}

/** Whether both are one action: numbers in single precision. @param {string[]} heads  @param {any} one  @param {any} other */
export function isSame(heads, one, other) {
  return heads.every((head) => {
    const [first, second] = [takenOf(one, head), takenOf(other, head)].map((each) => [each].flat(Infinity).map(Number));
    return first?.every((each, index) => Math.abs(each - Number(second?.[index])) <= 1e-5 * Math.max(1, Math.abs(each)));
  });
}
