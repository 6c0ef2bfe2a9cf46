// Requests to the service, with the API key where one is needed.

const STORED = "lenet5-key";
let key = sessionStorage.getItem(STORED) ?? "";

/** A request that the service refused, or did not answer (status 0). */
export class Refusal extends Error {
  constructor(status, message, retrySeconds = 0) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

/** Keep the API key until the tab is closed. */
export function useKey(value) {
  key = value;
  sessionStorage.setItem(STORED, value);
}

export const hasKey = () => key !== "";

/** Return the served version: its classes, and the images that it takes. */
export const model = async () => (await ask("model")).json();

/** Score a picture that is not finished; the service does not log the answer. */
export const preview = async (picture) => (await send("preview", picture)).json();

/** Classify a picture, and explain the answer. */
export const explain = async (picture) => (await send("explain", picture)).json();

/** Say what the picture of an answer really shows. */
export const feedback = async (requestId, label) =>
  ask("feedback", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ request_id: requestId, row: 0, label }),
  });

/** Return the report page of the served version. */
export const report = async () => (await ask("report")).blob();

/** Return the description of all routes. */
export const description = async () => (await ask("openapi.json")).json();

/** Give a request of other code the API key. */
export function authorized(request) {
  if (key) request.headers["X-API-Key"] = key;
  return request;
}

const send = (path, picture) =>
  ask(path, { method: "POST", headers: { "Content-Type": picture.type }, body: picture });

async function ask(path, options = {}) {
  let response;
  try {
    const headers = new Headers(options.headers);
    if (key) headers.set("X-API-Key", key);
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Refusal(0, "The service does not answer.", 2);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const parts = [error?.message, error?.found && `Found: ${error.found}.`, error?.expected && `Expected: ${error.expected}.`];
  const message = parts.filter(Boolean).join(" ") || `The service answered with the status ${response.status}.`;
  throw new Refusal(response.status, message, Number(response.headers.get("Retry-After") ?? 0));
}
