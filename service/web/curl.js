/** What the page does, as a command for a shell: the token stands in it by the name of its variable. */
import { token } from "./api.js";

/** A word of a shell, whatever it holds. @param {string} text */
export function shellWord(text) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body]
 * @param {{ hasToken?: boolean, headers?: Record<string, string> }} [options]
 */
export function curl(method, url, body, { hasToken = false, headers = {} } = {}) {
  const usual = body === undefined ? "GET" : "POST";
  const lines = [`curl -s ${method === usual ? "" : `-X ${method} `}${shellWord(url)}`];
  if (body !== undefined) lines.push("-H 'content-type: application/json'");
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${shellWord(`${name}: ${value}`)}`);
  if (hasToken) lines.push('-H "authorization: Bearer $MAZE_TOKEN"');
  if (body !== undefined) lines.push(`--data-raw ${shellWord(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

/** The command of a request to this service. @param {string} method  @param {string} path  @param {unknown} body
 * @param {Record<string, string>} [headers] */
export function curlHere(method, path, body, headers = {}) {
  return curl(method, location.origin + path, body, { hasToken: token() !== null, headers });
}
