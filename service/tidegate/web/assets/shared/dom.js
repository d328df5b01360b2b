/** Making elements, and drawing once per frame of the screen whatever arrives. */

export const $ = (id) => document.getElementById(id);

/** `make("li", "card", child, "text")`: text is always text, never markup. */
export function make(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** `draw` is called once before the screen is drawn next, however often this is called. */
export function onFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    // A page that is not shown has no frames; its state is drawn all the same, less often.
    const later = document.hidden ? (then) => setTimeout(then, 500) : requestAnimationFrame;
    later(() => {
      asked = false;
      draw();
    });
  };
}

/** A short note at the edge, which screen readers are told of too. */
export function toast(text, tone = "") {
  const shown = make("p", `toast ${tone}`, text);
  $("toasts").append(shown);
  while ($("toasts").childElementCount > 3) $("toasts").firstElementChild.remove();
  setTimeout(() => shown.remove(), 7_000);
}
