// Resumable uploads: tus 1.0 with creation, checksums and termination. https://tus.io/protocols/resumable-upload

import { ApiError, authorization, problemOf, send, toProblem } from "./api.js";
import { fingerprint, forget, recall, remember } from "./upload_memory.js";

const VERSION = { "Tus-Resumable": "1.0.0" };
// Chunks grow while they are quick: little is lost on a bad line, and few requests are made on a good one.
const MIN_CHUNK_BYTES = 512 * 1024;
const MAX_CHUNK_BYTES = 16 * 1024 * 1024;
const QUICK_CHUNK_MS = 2000;
const SLOW_CHUNK_MS = 8000;
const MAX_BACKOFF_MS = 30_000;

/**
 * One file on its way. Dispatches "change" when `state`, `offset`, `retryAt` or `error` changed.
 * States: waiting, uploading, retrying (connection lost, `retryAt` tells until when), paused, completed, failed,
 * cancelled.
 */
export class Upload extends EventTarget {
  state = "waiting";
  offset = 0;
  retryAt = null;
  error = null;
  #url = null;
  #isInStep = false;
  #chunkBytes = MIN_CHUNK_BYTES;
  #failures = 0;
  #request = null;
  #wake = () => {};

  constructor(file, endpoint = "/v1/uploads") {
    super();
    this.file = file;
    this.endpoint = endpoint;
    const known = recall(file);
    if (known) {
      this.#url = known.url;
      this.offset = known.offset;
    }
  }

  /** The server's name of the upload; null before it is created. */
  get id() {
    return this.#url?.split("/").pop() ?? null;
  }

  /** Sends everything. Resolves to the upload's id; rejects when it failed for good or was cancelled. */
  async run() {
    if (this.state === "waiting") this.#set("uploading");
    while (!this.#isDone()) {
      if (this.state === "paused") await this.#sleep();
      else if (this.state === "retrying") await this.#waitToRetry();
      else await this.#step();
    }
    if (this.state === "completed") return this.id;
    throw this.error ?? new DOMException("The upload was cancelled.", "AbortError");
  }

  pause() {
    if (this.state !== "uploading" && this.state !== "retrying" && this.state !== "waiting") return;
    this.#set("paused");
    this.#request?.abort();
    this.#wake();
  }

  /** Goes on after a pause, or at once instead of at `retryAt`. */
  resume() {
    if (this.state !== "paused" && this.state !== "retrying") return;
    this.#set("uploading");
    this.#wake();
  }

  /** Stops, and lets the server throw away what it has. */
  async cancel() {
    if (this.state === "cancelled") return;
    this.#set("cancelled");
    this.#request?.abort();
    this.#wake();
    this.forget();
    if (this.#url) await discard(this.#url);
  }

  /** The file has become a job: nothing is left to go on with. */
  forget() {
    forget(fingerprint(this.file));
  }

  #isDone() {
    return ["completed", "failed", "cancelled"].includes(this.state);
  }

  #set(state) {
    if (this.#isDone()) return;
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  async #step() {
    try {
      if (!this.#url) await this.#create();
      else if (!this.#isInStep) await this.#askOffset();
      else await this.#sendChunk();
      this.#failures = 0;
      if (this.#isInStep && this.offset === this.file.size) this.#set("completed");
    } catch (error) {
      this.#isInStep = false;
      if (this.state !== "uploading") return;
      this.#fail(error);
    }
  }

  #fail(error) {
    // Gone: expired, or of someone else's. Wrong offset or damaged bytes (460): ask and go on from there.
    const isLost = this.#url !== null && [403, 404, 410].includes(error.status);
    const isOutOfStep = [409, 423, 460].includes(error.status);
    // 401: the next request, which can ask the user for a key, is the question for the offset.
    const deservesAnother = (isLost || error.status === 401) && this.#failures === 0;
    if (isLost) {
      this.forget();
      this.#url = null;
      this.offset = 0;
    }
    this.#failures += 1;
    if (!error.isTemporary && !isOutOfStep && !deservesAnother) {
      this.error = error;
      this.#set("failed");
      return;
    }
    const backoff = Math.min(MAX_BACKOFF_MS, 500 * 2 ** (this.#failures - 1)) * (0.75 + Math.random() / 2);
    this.#chunkBytes = MIN_CHUNK_BYTES;
    this.retryAt = Date.now() + Math.max(backoff, (error.retryAfter ?? 0) * 1000);
    this.#set("retrying");
  }

  async #waitToRetry() {
    const timer = setTimeout(() => this.resume(), this.retryAt - Date.now());
    const isBack = () => this.resume();
    addEventListener("online", isBack);
    await this.#sleep();
    removeEventListener("online", isBack);
    clearTimeout(timer);
    this.retryAt = null;
  }

  #sleep() {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  async #create() {
    const headers = {
      ...VERSION,
      "Upload-Length": String(this.file.size),
      "Upload-Metadata": `filename ${toBase64(new TextEncoder().encode(this.file.name))}`,
    };
    const response = await send("POST", this.endpoint, { headers });
    if (!response.ok) throw await problemOf(response);
    const created = new URL(response.headers.get("Location"), document.baseURI);
    // Behind a proxy a server may not know its own name; the path is right in any case.
    this.#url = created.pathname;
    this.offset = 0;
    this.#isInStep = true;
    remember(this.file, { url: this.#url, offset: 0 });
  }

  async #askOffset() {
    const response = await send("HEAD", this.#url, { headers: VERSION });
    if (!response.ok) throw await problemOf(response);
    const offset = Number(response.headers.get("Upload-Offset"));
    const isSameFile = Number(response.headers.get("Upload-Length") ?? this.file.size) === this.file.size;
    if (!isSameFile) throw new ApiError("The upload on the server is of another file.", { status: 404, code: "not_found" });
    this.#advance(offset);
    this.#isInStep = true;
  }

  async #sendChunk() {
    const chunk = this.file.slice(this.offset, this.offset + this.#chunkBytes);
    const started = performance.now();
    const start = this.offset;
    const offset = await this.#patch(chunk, await checksum(chunk), start);
    if (!(offset > start && offset <= this.file.size)) {
      throw new ApiError("The server lost its place in the file.", { status: 409, code: "conflict" });
    }
    this.#advance(offset);
    const took = performance.now() - started;
    if (took < QUICK_CHUNK_MS) this.#chunkBytes = Math.min(MAX_CHUNK_BYTES, this.#chunkBytes * 2);
    else if (took > SLOW_CHUNK_MS) this.#chunkBytes = Math.max(MIN_CHUNK_BYTES, this.#chunkBytes / 2);
  }

  #advance(offset) {
    this.offset = offset;
    remember(this.file, { url: this.#url, offset });
    this.#changed();
  }

  // XMLHttpRequest, since fetch does not tell how much of a body has gone out.
  #patch(chunk, checksumHeader, start) {
    if (this.state !== "uploading") throw new ApiError("Paused.");
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.#request = request;
      request.open("PATCH", this.#url);
      const headers = { ...VERSION, ...authorization(), ...checksumHeader, "Upload-Offset": String(start) };
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.setRequestHeader("Content-Type", "application/offset+octet-stream");
      request.upload.onprogress = (event) => {
        this.offset = start + Math.min(event.loaded, chunk.size);
        this.#changed();
      };
      request.onload = () => {
        if (request.status === 204) resolve(Number(request.getResponseHeader("Upload-Offset")));
        else reject(toProblem(request.status, request.responseText, request.getResponseHeader("Retry-After")));
      };
      request.onerror = () => reject(new ApiError("The connection was lost."));
      request.onabort = () => reject(new ApiError("Paused."));
      request.send(chunk);
    });
  }
}

/** Lets the server throw away an upload; it expires anyway when that does not work. */
export async function discard(url) {
  await send("DELETE", url, { headers: VERSION, mayAsk: false }).catch(() => {});
}

// crypto.subtle exists on https and localhost only.
async function checksum(chunk) {
  if (!globalThis.crypto?.subtle) return {};
  const digest = await crypto.subtle.digest("SHA-256", await chunk.arrayBuffer());
  return { "Upload-Checksum": `sha256 ${toBase64(new Uint8Array(digest))}` };
}

function toBase64(array) {
  return btoa(String.fromCharCode(...array));
}
