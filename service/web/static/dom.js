// Making and finding elements. Text always goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `text`, `on...` handlers, other names as attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the icons drawn in index.html, such as "play". Decoration: the button around it has the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, onclick) {
  return el("button", { type: "button", class: "button icon-only", "aria-label": label, title: label, onclick }, icon(name));
}

/** Changes icon and label of a button that has two states. */
export function setIcon(button, name, label) {
  const use = button.querySelector("use");
  if (use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
  button.setAttribute("aria-label", label);
  button.title = label;
}

/** Sets text only where it differs: screen readers repeat live regions on every write. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A progress bar of `share` 0-1. */
export function setBar(bar, share) {
  const percent = Math.round(share * 100);
  bar.style.setProperty("--share", String(share));
  bar.setAttribute("aria-valuenow", String(percent));
}

export function bar(label) {
  return el(
    "div",
    { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" },
    el("span"),
  );
}

/** Says something to screen readers without showing it. */
export function announce(text) {
  setText($("live"), text);
}

export const prefersStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
