// Tickets: what a browser opens without a header or a cookie, an EventSource and a WebSocket, each once.
import { walk } from "./browser.mjs";

await walk(async (page, { url, token }, { ignore }) => {
  ignore(/40[14]|WebSocket|EventSource|401/);
  await page.goto(url);
  return page.evaluate(async (token) => {
    const ticket = async (path) => {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const answer = await fetch("/v1/tickets", { method: "POST", headers, body: JSON.stringify({ path }) });
      return `${path}?ticket=${(await answer.json()).ticket}`;
    };
    const events = (address) => new Promise((resolve) => {
      const stream = new EventSource(address);
      stream.addEventListener("state", (event) => { stream.close(); resolve(JSON.parse(event.data).type); });
      stream.onerror = () => { stream.close(); resolve("refused"); };
    });
    const session = (address) => new Promise((resolve) => {
      const told = [];
      const socket = new WebSocket(address.replace("/", `ws://${location.host}/`), "maze.act.v1.json");
      socket.onmessage = ({ data }) => told.push(JSON.parse(data).problem.code);
      socket.onclose = ({ code }) => resolve([...told, code]);
    });
    const stream = await ticket("/v1/events");
    const place = await ticket(`/v1/sessions/session_${"0".repeat(26)}/ws`);
    return {
      events: [await events(stream), await events(stream), await events("/v1/events")],
      sessions: [await session(place), await session(place)],
    };
  }, token);
});
