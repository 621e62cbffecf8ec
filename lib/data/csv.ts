// A CSV reader (RFC 4180): fields in quotes may hold commas, quotes (doubled) and line ends; rows end
// with CRLF or LF. It takes the text in pieces of any size, so a file is never whole in memory.
// Left out on purpose: other separators, comments, and guesses about quotes that stand where the RFC
// forbids them - those are errors that name their line.

import { InvalidFile } from "../errors.ts";

export interface CsvRow {
  fields: string[];
  /** The line the row begins on, from 1. */
  line: number;
}

export interface CsvParser {
  /** Takes the next piece of text; gives the rows that ended in it. */
  push(text: string): CsvRow[];
  /** Ends the text; gives the last row when no line end followed it. */
  end(): CsvRow[];
}

const quote = 34, comma = 44, newline = 10, carriageReturn = 13;

/**
 * Makes a parser for one file; blank lines are no rows.
 * @throws {InvalidFile} from `push` and `end`: a misplaced quote, or one that is never closed.
 */
export function csvParser(param: string | null = null): CsvParser {
  // "quoteInQuoted": a quote was seen inside quotes; the next character tells whether it closes.
  let state: "start" | "plain" | "quoted" | "quoteInQuoted" | "carriageReturn" = "start";
  let fields: string[] = [];
  let field = "";
  let line = 1, rowLine = 1, quoteLine = 1;
  let hadQuotes = false;
  let rows: CsvRow[] = [];

  const fail = (what: string, at: number) =>
    new InvalidFile(
      `Cannot read line ${at} as CSV: ${what}. Put the field in quotes and double the quotes inside.`,
      param,
    );

  function endField() {
    fields.push(field);
    field = "";
    state = "start";
  }

  function endRow() {
    endField();
    const blank = fields.length === 1 && fields[0] === "" && !hadQuotes;
    if (!blank) rows.push({ fields, line: rowLine });
    fields = [];
    hadQuotes = false;
    rowLine = line;
  }

  function push(text: string): CsvRow[] {
    rows = [];
    let i = 0;
    while (i < text.length) {
      const code = text.charCodeAt(i);
      if (state === "quoted") {
        let end = text.indexOf('"', i);
        if (end < 0) end = text.length;
        const piece = text.slice(i, end);
        for (let at = piece.indexOf("\n"); at >= 0; at = piece.indexOf("\n", at + 1)) line++;
        field += piece;
        if (end < text.length) state = "quoteInQuoted";
        i = end + 1;
        continue;
      }
      i++;
      if (state === "carriageReturn") {
        if (code !== newline) throw fail("a carriage return stands alone outside quotes", line);
        line++;
        endRow();
      } else if (code === quote) {
        if (state === "quoteInQuoted") {
          field += '"';
          state = "quoted";
        } else if (state === "start") {
          state = "quoted";
          hadQuotes = true;
          quoteLine = line;
        } else throw fail("a quote stands inside a field without quotes", line);
      } else if (code === comma) endField();
      else if (code === newline) {
        line++;
        endRow();
      } else if (code === carriageReturn) state = "carriageReturn";
      else if (state === "quoteInQuoted") {
        throw fail(`"${text[i - 1]}" follows a closing quote`, line);
      } else {
        let end = i;
        while (end < text.length) {
          const next = text.charCodeAt(end);
          if (next === comma || next === newline || next === carriageReturn || next === quote) {
            break;
          }
          end++;
        }
        field += text.slice(i - 1, end);
        state = "plain";
        i = end;
      }
    }
    return rows;
  }

  function end(): CsvRow[] {
    rows = [];
    if (state === "quoted") throw fail("the quote that opens here is never closed", quoteLine);
    if (state !== "start" || fields.length > 0) endRow();
    return rows;
  }

  return { push, end };
}
