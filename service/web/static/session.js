// Who is asking: the dialog for the key, the session cookie, signing out.

import { getKey, onKeyNeeded, request, setKey } from "./api.js";
import { $ } from "./dom.js";
import { showError } from "./toasts.js";

let asking = null;

onKeyNeeded(() => (asking ??= ask().finally(() => (asking = null))));

/** Finds out who is signed in, asking for a key where the server wants one; null when it was not given. */
export async function identify() {
  try {
    const me = await request("GET", "/v1/me");
    showAccount(me);
    return me;
  } catch (error) {
    if (error.status !== 401) throw error;
    showAccount(null);
    return null;
  }
}

function ask() {
  // A key that was refused is of no further use.
  setKey(null);
  const dialog = $("key-dialog");
  $("key").value = "";
  $("key-error").textContent = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(getKey() !== null), { once: true });
  });
}

async function signIn(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  const button = event.currentTarget.querySelector("button");
  button.disabled = true;
  try {
    const headers = { Authorization: `Bearer ${key}` };
    await request("POST", "/v1/session", { json: { key }, headers, mayAsk: false });
    setKey(key);
    $("key-dialog").close();
  } catch (error) {
    $("key-error").textContent = error.message;
    $("key").focus();
  } finally {
    button.disabled = false;
  }
}

function showAccount(me) {
  const isNeeded = me === null || me.auth_required;
  $("account").hidden = !isNeeded;
  $("account-name").textContent = me?.name ?? "";
  $("sign-out").textContent = me === null ? "Sign in" : "Sign out";
}

async function signOut() {
  try {
    await request("DELETE", "/v1/session", { mayAsk: false });
  } catch (error) {
    // 401: the key is no longer valid, which is what signing out is for.
    if (error.status !== 401) {
      showError(error);
      return;
    }
  }
  setKey(null);
  // Everything on the page belongs to who is leaving.
  location.assign("/");
}

$("key-form").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
