// The form for the API key, and the place for messages, which both pages have.

import * as service from "./service.js";

const $ = (id) => document.getElementById(id);

/** Show a message; an empty text hides it. */
export function notice(text) {
  $("notice").hidden = !text;
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

/** Show a refusal in words; where the key is missing, the form for it. */
export function report(refusal) {
  if (!(refusal instanceof service.Refusal)) throw refusal;
  if (refusal.status !== 401) return notice(refusal.message);
  const shown = !$("key-form").hidden;
  $("key-form").hidden = false;
  notice(service.hasKey() ? "The service does not know this key." : "");
  if (!shown) $("key").focus();
}

/** Call `load` with each key that a person enters; hide the form when it succeeds. */
export function onKey(load) {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    service.useKey($("key").value.trim());
    $("key").value = "";
    load();
  });
}

/** The key was accepted, or none is needed. */
export function accepted() {
  $("key-form").hidden = true;
  notice("");
}
