// A question before something that cannot be taken back.

import { $ } from "./dom.js";

/** Asks; resolves to whether the answer was yes. Escape and a click beside the dialog mean no. */
export function confirm({ title, text, yes, no = "Keep" }) {
  const dialog = $("confirm-dialog");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  $("confirm-no").textContent = no;
  dialog.returnValue = "no";
  dialog.showModal();
  $("confirm-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

$("confirm-yes").addEventListener("click", () => $("confirm-dialog").close("yes"));
$("confirm-no").addEventListener("click", () => $("confirm-dialog").close("no"));
$("confirm-dialog").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) event.currentTarget.close("no");
});
