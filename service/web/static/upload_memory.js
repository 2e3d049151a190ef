// Remembers unfinished uploads across reloads: where on the server the bytes of a file are.
// Browsers do not let a page keep the file itself, so the user chooses it again and only the rest is sent.

const PREFIX = "dovetail.upload.";
// Servers drop uploads after some days; what is older than this is not worth asking for.
const MAX_AGE_MS = 7 * 86_400_000;

/** Equal for the same file chosen twice. Reading gigabytes for a digest would take longer than it saves. */
export function fingerprint(file) {
  return [file.name, file.size, file.lastModified].join("|");
}

export function remember(file, { url, offset }) {
  write(PREFIX + fingerprint(file), { url, offset, name: file.name, size: file.size, at: Date.now() });
}

export function recall(file) {
  return read(PREFIX + fingerprint(file));
}

export function forget(key) {
  attempt(() => localStorage.removeItem(PREFIX + key));
}

/** All that are remembered, newest first: `{key, url, offset, name, size, at}`. */
export function interrupted() {
  const keys = attempt(() => Object.keys(localStorage)) ?? [];
  const entries = keys
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => ({ key: key.slice(PREFIX.length), ...read(key) }));
  return entries.filter((entry) => entry.url).sort((a, b) => b.at - a.at);
}

function read(key) {
  const entry = attempt(() => JSON.parse(localStorage.getItem(key)));
  if (!entry?.url || !(Date.now() - entry.at < MAX_AGE_MS)) return null;
  return entry;
}

function write(key, entry) {
  attempt(() => localStorage.setItem(key, JSON.stringify(entry)));
}

// Storage can be switched off or full; uploads then work, only without memory.
function attempt(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
