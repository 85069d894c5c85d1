// What a schema has to fill in: each field's key, what stands there, and what is read when that is typed.
import { readFileSync } from "node:fs";
import { flat, nodesOf, read, written } from "../../service/web/views/schema_form.js";

const { key, schema } = JSON.parse(readFileSync(0, "utf8"));
const fields = flat(nodesOf(key, schema, schema.$defs)).filter(({ kind }) => kind === "field");
console.log(JSON.stringify(fields.map((field) => ({ key: field.key, standard: field.standard, read: read(written(field.standard), field) }))));
