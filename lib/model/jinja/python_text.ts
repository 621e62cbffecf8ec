// Text as Python has it, where JavaScript's own differs: strip() and split() know other spaces, title()
// and capitalize() lower the rest, repr() quotes otherwise, floats keep their ".0".

/** What str.isspace() calls space: without U+FEFF, with the separators 0x1c to 0x1f and 0x85. */
const space =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const isSpace = new RegExp(`^[${space}]$`);
const lineEnd = new RegExp("\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]");
const word = new RegExp(`[^${space}]+`, "g");

export type Side = "both" | "left" | "right";

/** str.strip, lstrip and rstrip; `characters` is a set of them, null stands for space. */
export function strip(text: string, characters: string | null, side: Side): string {
  const set = characters === null ? null : new Set(characters);
  const goes = (character: string) => set ? set.has(character) : isSpace.test(character);
  let [from, to] = [0, text.length];
  while (side !== "right" && from < to) {
    const character = String.fromCodePoint(text.codePointAt(from)!);
    if (!goes(character)) break;
    from += character.length;
  }
  while (side !== "left" && from < to) {
    const isPair = to - from > 1 && text.codePointAt(to - 2)! > 0xffff;
    const character = text.slice(to - (isPair ? 2 : 1), to);
    if (!goes(character)) break;
    to -= character.length;
  }
  return text.slice(from, to);
}

/** len(): characters, not halves of surrogate pairs. */
export function lengthOf(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    if (text.codePointAt(i)! > 0xffff) {
      length--;
      i++;
    }
  }
  return length;
}

/** The most characters of a text that a template makes; a request has 4 MiB. */
export const maxTextLength = 2 ** 24;

/** @throws {Error} for a text that is too long to be made */
export function checkLength(length: number): void {
  if (length > maxTextLength) throw new Error(`a text of more than ${maxTextLength} characters`);
}

/** str.join */
export function join(parts: readonly string[], separator: string): string {
  checkLength(parts.reduce((sum, part) => sum + part.length + separator.length, 0));
  return parts.join(separator);
}

/** str.split with a separator, or at runs of space; at most `most` splits unless that is negative. */
export function split(text: string, separator: string | null, most: number): string[] {
  if (separator === "") throw new Error("empty separator");
  if (separator === null) {
    const parts: string[] = [];
    for (const { 0: part, index } of text.matchAll(word)) {
      if (parts.length === most) return [...parts, text.slice(index)];
      parts.push(part);
    }
    return parts;
  }
  const parts = text.split(separator);
  if (most < 0 || parts.length <= most) return parts;
  return [...parts.slice(0, most), parts.slice(most).join(separator)];
}

/** str.rsplit with a separator: as `split`, counted from the end. */
export function splitFromRight(text: string, separator: string | null, most: number): string[] {
  const reversed = (part: string) => Array.from(part).reverse().join("");
  const backwards = separator === null ? null : reversed(separator);
  return split(reversed(text), backwards, most).map(reversed).reverse();
}

/** str.replace; all of them when `count` is negative. */
export function replace(text: string, old: string, by: string, count: number): string {
  const most = count < 0 ? Infinity : count;
  const parts = old === "" ? ["", ...Array.from(text), ""] : text.split(old);
  const first = parts.slice(0, Math.min(most, parts.length));
  checkLength(text.length + first.length * by.length);
  if (first.length === parts.length) return parts.join(by);
  return [...first, parts.slice(first.length).join(old)].join(by);
}

/** str.capitalize */
export function capitalize(text: string): string {
  const [first = "", ...rest] = Array.from(text);
  return titled(first) + rest.join("").toLowerCase();
}

/** str.title: what follows a letter is lowered, what follows anything else is raised. */
export function title(text: string): string {
  return text.replace(/\p{Cased}+/gu, capitalize);
}

/** Jinja's filter `title`: words begin after space, dashes and opening brackets. */
export function titleWords(text: string): string {
  return text.replace(new RegExp(`[^-${space}({\\[<]+`, "gu"), (found) => {
    const [first, ...rest] = Array.from(found);
    return first.toUpperCase() + rest.join("").toLowerCase();
  });
}

/** One character raised, of several letters the first alone: "ß" becomes "Ss". */
function titled(character: string): string {
  const [first = "", ...rest] = Array.from(character.toUpperCase());
  return first + rest.join("").toLowerCase();
}

/** str.splitlines */
export function splitLines(text: string): string[] {
  const lines = text.split(lineEnd);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** repr() of a string: single quotes unless it has some and no double ones; what cannot be seen escaped. */
export function stringRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\'"]|[^\P{C} ]|[^\P{Z} ]/gu, (character) => {
    if (character === "\\") return "\\\\";
    if (character === "'" || character === '"') {
      return character === quote ? `\\${character}` : character;
    }
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    if (short !== undefined) return short;
    const code = character.codePointAt(0)!.toString(16);
    if (code.length <= 2) return `\\x${code.padStart(2, "0")}`;
    return code.length <= 4 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
  });
  return quote + escaped + quote;
}

/** repr() of a float: the shortest digits, with an exponent below 1e-4 and from 1e16. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (!Number.isFinite(value)) return `${sign}inf`;
  const [mantissa, power] = Math.abs(value).toExponential().split("e");
  const exponent = Number(power);
  const digits = mantissa.replace(".", "");
  if (exponent < -4 || exponent >= 16) {
    const shown = `${Math.abs(exponent)}`.padStart(2, "0");
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${shown}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

const weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** datetime.strftime in the C locale. @throws {Error} for directives that are not done here */
export function strftime(date: Date, format: string): string {
  const two = (number: number) => `${number}`.padStart(2, "0");
  const hour = date.getHours() % 12 || 12;
  const dayOfYear = 1 + Math.round(
    (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) -
      Date.UTC(date.getFullYear(), 0, 1)) / 864e5,
  );
  const directives: Record<string, string> = {
    "%": "%",
    a: weekdays[date.getDay()].slice(0, 3),
    A: weekdays[date.getDay()],
    b: months[date.getMonth()].slice(0, 3),
    B: months[date.getMonth()],
    d: two(date.getDate()),
    "-d": `${date.getDate()}`,
    e: `${date.getDate()}`.padStart(2),
    H: two(date.getHours()),
    I: two(hour),
    j: `${dayOfYear}`.padStart(3, "0"),
    m: two(date.getMonth() + 1),
    "-m": `${date.getMonth() + 1}`,
    M: two(date.getMinutes()),
    p: date.getHours() < 12 ? "AM" : "PM",
    S: two(date.getSeconds()),
    y: two(date.getFullYear() % 100),
    Y: `${date.getFullYear()}`,
  };
  directives.F = `${directives.Y}-${directives.m}-${directives.d}`;
  directives.T = `${directives.H}:${directives.M}:${directives.S}`;
  return format.replace(/%(-?[\s\S]?)/g, (found, directive: string) => {
    if (!Object.hasOwn(directives, directive)) {
      throw new Error(`strftime_now's directive ${found} is not done here`);
    }
    return directives[directive];
  });
}
