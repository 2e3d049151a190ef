// Requests to the API: keys, problem details, and one way to fail.

/** A refusal of the server (RFC 9457), or `status` 0 when it could not be reached. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "unreachable", retryAfter = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const UNREACHABLE = "The server cannot be reached. Check the connection; this page tries again by itself.";
const KEY_NAME = "dovetail.key";
let askForKey = async () => false;

// The cookie of the session opens media and events; whatever changes something needs the key itself, so that no
// other site can do it. It lives as long as the tab.
export const getKey = () => sessionStorage.getItem(KEY_NAME);
export function setKey(key) {
  if (key === null) sessionStorage.removeItem(KEY_NAME);
  else sessionStorage.setItem(KEY_NAME, key);
}

/** Names who asks the user for a key; resolves to whether there is one now. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function authorization() {
  const key = getKey();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Sends a request, with the question for a key when it is needed. Resolves to the Response, whatever its status. */
export async function send(method, path, { body, headers = {}, signal, mayAsk = true } = {}) {
  const once = async () => {
    try {
      return await fetch(path, { method, body, signal, cache: "no-cache", headers: { ...authorization(), ...headers } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(UNREACHABLE);
    }
  };
  const response = await once();
  if (response.status !== 401 || !mayAsk || !(await askForKey())) return response;
  return once();
}

/** Sends JSON and gives back JSON (null for 204). Throws ApiError for everything that is not a success. */
export async function request(method, path, { json, headers = {}, ...options } = {}) {
  const response = await send(method, path, {
    ...options,
    body: json === undefined ? undefined : JSON.stringify(json),
    headers: json === undefined ? headers : { "Content-Type": "application/json", ...headers },
  });
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** The error that a Response describes. */
export async function problemOf(response) {
  const text = await response.text().catch(() => "");
  return toProblem(response.status, text, response.headers.get("Retry-After"));
}

/** The error in a body of application/problem+json, or the best that can be said without one. */
export function toProblem(status, text, retryAfter) {
  const problem = parse(text);
  const details = (problem.errors ?? []).map((error) => error.message).filter((message) => !problem.detail?.includes(message));
  const message = [problem.detail ?? problem.title ?? `The server answered ${status}.`, ...details].join(" ");
  const seconds = Number.parseFloat(retryAfter ?? "");
  return new ApiError(message, {
    status,
    code: problem.code ?? "unknown",
    retryAfter: Number.isFinite(seconds) ? seconds : null,
  });
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}
