// Numbers as people read them. Pure functions.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** 1536000 -> "1.5 MB" */
export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(unit > 0 && value < 9.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** 83.4 -> "1:23" */
export function clock(seconds) {
  const whole = Number.isFinite(seconds) ? Math.max(0, Math.floor(seconds)) : 0;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const tail = String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

/** 83.4 -> "about 1 min", as precise as an estimate is. */
export function about(seconds) {
  if (seconds < 1) return "about a second";
  if (seconds < 20) return `about ${Math.round(seconds)} s`;
  if (seconds < 57.5) return `about ${Math.ceil(seconds / 5) * 5} s`;
  if (seconds < 3570) return `about ${Math.round(seconds / 60)} min`;
  if (seconds < 36000) return `about ${(seconds / 3600).toFixed(1)} h`;
  if (seconds < 172800) return `about ${Math.round(seconds / 3600)} h`;
  return `about ${Math.round(seconds / 86400)} days`;
}

/** How long ago an RFC 3339 time was. */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export const size = (width, height) => `${width} × ${height}`;

export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** 2 -> "2nd" */
export function ordinal(number) {
  const rest = number % 100;
  const ending = rest > 10 && rest < 14 ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** 3.14159 -> "3.1", 24 -> "24" */
export function rate(number) {
  return number < 9.95 ? number.toFixed(number < 0.995 ? 2 : 1) : String(Math.round(number));
}
