// A page for React: imported before it.

import { JSDOM } from "jsdom";

const { window } = new JSDOM("<!doctype html><html><body></body></html>", { url: "http://page.test" });
const { document, navigator, HTMLElement, MutationObserver } = window;
for (const [name, value] of Object.entries({ window, document, navigator, HTMLElement, MutationObserver })) {
  // Some of Node.js' own can only be defined anew.
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}
