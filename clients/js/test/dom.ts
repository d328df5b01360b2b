/** A document for tests of hooks: import it before React or Vue. What is drawn is looked at in a real browser. */

import { Window } from "happy-dom";

const window = new Window({ url: "https://page.test/" });
Object.assign(globalThis, {
  window,
  document: window.document,
  HTMLElement: window.HTMLElement,
  Element: window.Element,
  SVGElement: window.SVGElement,
  Node: window.Node,
  IS_REACT_ACT_ENVIRONMENT: true,
});

export const page = window.document as unknown as Document;
