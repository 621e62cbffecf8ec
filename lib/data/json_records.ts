// Records of JSON text: one on each line (.jsonl), or as the elements of one array (.json), which are
// cut out of the text as it comes, so that neither file is ever whole in memory. JSON.parse reads each
// record; what nests deeper than a record needs is refused before it.

import { maxJsonDepth, parseJson } from "../json_text.ts";
import { type Fail, lineGroups, maxRecordChars } from "./text_file.ts";

/** A record and where it stands, e.g. "line 3". */
export interface PlacedRecord {
  where: string;
  record: unknown;
}

/** The records of a .jsonl file; blank lines are none. @throws what `fail` makes, naming the line */
export async function* jsonLineRecords(
  pieces: AsyncIterable<string>,
  fail: Fail,
): AsyncGenerator<PlacedRecord[]> {
  let line = 0;
  for await (const lines of lineGroups(pieces, fail)) {
    yield lines.flatMap((text) => {
      line++;
      return text.trim() === "" ? [] : [parseRecord(text, `line ${line}`, fail)];
    });
  }
}

function parseRecord(text: string, where: string, fail: Fail): PlacedRecord {
  try {
    return { where, record: parseJson(text) };
  } catch (error) {
    const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text;
    throw fail(`${where} is not JSON (${(error as Error).message}): ${shown}`);
  }
}

const quote = 0x22, backslash = 0x5c, comma = 0x2c;
const opens = (code: number) => code === 0x5b || code === 0x7b;
const closes = (code: number) => code === 0x5d || code === 0x7d;

/** The records of a .json file, which holds one array. @throws what `fail` makes, naming the record */
export async function* jsonArrayRecords(
  pieces: AsyncIterable<string>,
  fail: Fail,
): AsyncGenerator<PlacedRecord[]> {
  const advice = "wanted an array of records; a file of one record a line must end in .jsonl";
  let depth = 0, inText = false, afterBackslash = false, count = 0, isOver = false;
  let begun: string[] = [], begunChars = 0;

  for await (const piece of pieces) {
    const records: PlacedRecord[] = [];
    let start = 0;
    const add = (text: string) => {
      begun.push(text);
      begunChars += text.length;
      if (begunChars > maxRecordChars) {
        throw fail(`record ${count + 1} is longer than ${maxRecordChars} characters`);
      }
    };
    const cut = (end: number) => {
      add(piece.slice(start, end));
      const text = begun.join("");
      begun = [];
      begunChars = 0;
      start = end + 1;
      // An array without an element has one cut, at its end.
      if (isOver && count === 0 && text.trim() === "") return;
      count++;
      records.push(parseRecord(text, `record ${count}`, fail));
    };
    for (let at = 0; at < piece.length; at++) {
      const code = piece.charCodeAt(at);
      if (inText) {
        if (afterBackslash) afterBackslash = false;
        else if (code === backslash) afterBackslash = true;
        else if (code === quote) inText = false;
      } else if (depth === 0) {
        if (/\s/.test(piece[at])) continue;
        if (isOver) throw fail(`something stands after its array: ${piece.slice(at, at + 40)}`);
        if (piece[at] !== "[") throw fail(`it begins with ${JSON.stringify(piece[at])}, ${advice}`);
        depth = 1;
        start = at + 1;
      } else if (code === quote) inText = true;
      else if (opens(code)) {
        // The array itself is one level.
        if (++depth > maxJsonDepth + 1) {
          throw fail(`record ${count + 1} nests more than ${maxJsonDepth} brackets`);
        }
      } else if (closes(code)) {
        isOver = --depth === 0;
        if (isOver) cut(at);
      } else if (code === comma && depth === 1) cut(at);
    }
    if (depth > 0) add(piece.slice(start));
    yield records;
  }
  if (!isOver) throw fail(depth === 0 ? `it is blank, ${advice}` : "its array does not end");
}
