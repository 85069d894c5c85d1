/** What the page does, as a command for a shell: the token stands in it by the name of its variable. */
import { token } from "./api.js";

/** One word of a shell, whatever it holds. @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * @param {string} method
 * @param {string} path made by `address`
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 */
export function curl(method, path, body, headers = {}) {
  const lines = [`curl -s ${method === (body === undefined ? "GET" : "POST") ? "" : `-X ${method} `}${quoted(location.origin + path)}`];
  if (token()) lines.push(`-H "Authorization: Bearer $MAZE_TOKEN"`);
  if (body !== undefined) lines.push("-H 'Content-Type: application/json'");
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) lines.push(`-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}
