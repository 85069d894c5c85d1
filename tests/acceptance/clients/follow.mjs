// Follows a run's events over a restart of the service, to its end: node follow.mjs URL [CHROMIUM]
// with npm's EventSource, or with the browser's own where a browser is named.
import { EventSource } from "eventsource";
import { chromium } from "playwright-core";

const [url, browser] = process.argv.slice(2);

function follow(url) {
  const types = ["state", "phase", "metrics", "checkpoint", "episode", "progress", "warning", "log", "end"];
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    const seen = [];
    for (const type of [...types, "message"])
      source.addEventListener(type, (event) => {
        if (!event.data || JSON.parse(event.data).seq !== Number(event.lastEventId)) reject(new Error("an empty event"));
        seen.push(Number(event.lastEventId));
        console.log(event.lastEventId);
      });
    source.addEventListener("error", () => {
      // after the end the browser connects once more, is answered 204, and stops
      if (source.readyState !== EventSource.CLOSED) return;
      if (seen.some((id, index) => id !== index + 1)) reject(new Error(`events are missing: ${seen}`));
      resolve();
    });
  });
}

if (browser) {
  const running = await chromium.launch({ executablePath: browser, args: ["--no-sandbox"] });
  const page = await running.newPage();
  page.on("console", (message) => message.type() === "log" && console.log(message.text()));
  await page.goto(new URL("/health/live", url).href);
  await page.evaluate(follow, url);
  await running.close();
} else {
  globalThis.EventSource = EventSource;
  await follow(url);
}
process.exit(0);
