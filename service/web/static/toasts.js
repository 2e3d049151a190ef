// Short messages in the corner. Errors stay until they are closed; the rest goes by itself.

import { $, el, iconButton } from "./dom.js";

const SHOWN_MS = 7000;
const MAX_SHOWN = 4;

export function showError(error) {
  if (error?.name === "AbortError") return;
  // A fault of this page itself is also for the console, where the stack is.
  if (error instanceof Error && error.name !== "ApiError") console.error(error);
  show(error?.message ?? String(error), "error");
}

export function showInfo(text) {
  const toast = show(text, "info");
  setTimeout(() => toast.remove(), SHOWN_MS);
}

function show(text, kind) {
  const toasts = $("toasts");
  // The same failure again, such as of a button pressed twice, is not a second message.
  for (const old of toasts.children) if (old.dataset.text === text) old.remove();
  const toast = el("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" });
  toast.dataset.text = text;
  toast.append(el("p", { text }), iconButton("close", "Close message", () => toast.remove()));
  toasts.append(toast);
  while (toasts.children.length > MAX_SHOWN) toasts.firstChild.remove();
  return toast;
}
