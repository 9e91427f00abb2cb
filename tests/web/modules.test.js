/** Every module of the page can be read and loaded, also without a page. */

import { readdirSync } from "node:fs";
import { test } from "node:test";

const WEB = new URL("../../web/", import.meta.url);
const modules = readdirSync(WEB, { recursive: true }).filter((name) => String(name).endsWith(".js"));

for (const name of modules) test(`${name} loads`, () => import(new URL(String(name), WEB).href));
