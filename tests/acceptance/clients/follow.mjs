// Follows a run's events as a browser does, over a restart of the service, to its end.
import { EventSource } from "eventsource";

const types = ["state", "phase", "metrics", "checkpoint", "episode", "progress", "warning", "log", "end"];
const source = new EventSource(process.argv[2]);
const seen = [];
for (const type of [...types, "message"])
  source.addEventListener(type, (event) => {
    if (!event.data || JSON.parse(event.data).seq !== Number(event.lastEventId)) throw new Error("an empty event");
    seen.push(Number(event.lastEventId));
    console.log(event.lastEventId);
  });
source.addEventListener("error", () => {
  // after the end the browser connects once more, is answered 204, and stops
  if (source.readyState !== EventSource.CLOSED) return;
  if (seen.some((id, index) => id !== index + 1)) throw new Error(`events are missing: ${seen}`);
  process.exit(0);
});
