// What of an action is whose head's, and how likely it was: without a browser.
import { isSame, shareOf, takenOf } from "../../service/web/views/taken.js";

const { asked } = JSON.parse(process.argv[2] ?? "{}");
console.log(JSON.stringify(asked.map(({ heads, action, answered }) => {
  const names = Object.keys(heads);
  return { taken: names.map((name) => takenOf(action, name) ?? null), share: shareOf(Object.entries(heads), action), same: isSame(names, action, answered ?? action) };
})));
