// Makes the types of the management API out of its OpenAPI document: `node generate.mjs [DOCUMENT]`.

import { readFile, writeFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";

const from = process.argv[2] ?? new URL("../../docs/openapi.json", import.meta.url);
const document = JSON.parse(await readFile(from, "utf8"));
for (const route of Object.values(document.paths)) {
  // Routes are known by method and path: types of their own names would be a second table of the same.
  for (const operation of Object.values(route)) delete operation.operationId;
}
const types = astToString(await openapiTS(document, { silent: true }));
await writeFile(new URL("src/api.ts", import.meta.url), `// Made of docs/openapi.json by generate.mjs: not to be changed by hand.\n\n${types}`);
