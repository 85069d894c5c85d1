// A request as the page copies it: `{ body, path, isSweep }` → the texts by their name.
import { textsOf } from "../../service/web/views/copy_as.js";

const { body, path, origin, isSweep } = JSON.parse(process.argv[2]);
console.log(JSON.stringify(Object.fromEntries(textsOf(body, { path, origin, isSweep }).map(({ id, text, reason }) => [id, text ?? { reason }]))));
