// Plain text tables: the first column to the left, the others to the right.

/** The rows under each other, the first one underlined. */
export function table(rows: string[][]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))
      .join("  ").trimEnd()
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}

/** E.g. 0.425 -> "42.5 %". */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
