// All shapes by their names.

import { plain, right } from "./right.mjs";
import { wrong } from "./wrong.mjs";

export const shapes = { ...right, ...Object.assign({}, ...Object.values(plain)), ...wrong };
