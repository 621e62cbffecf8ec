// The real text worker with ways to break it, by the name of the file that is opened: "loop" never returns,
// "memory" takes all there is, "reject" leaves a rejection that nobody awaits, "stray" one a while later, and
// so does "late", which fails besides.

import "../../../../lib/engine/text/worker.ts";

const open = Deno.open;
Deno.open = (path, options) => {
  const name = String(path).split("/").at(-1)!;
  while (name.startsWith("loop"));
  if (name.startsWith("memory")) {
    for (const all: unknown[] = [];;) all.push(Array.from({ length: 1e5 }, (_, i) => ({ i })));
  }
  if (name.startsWith("reject")) Promise.reject(new Error("nobody awaits this"));
  if (name.startsWith("late") || name.startsWith("stray")) {
    setTimeout(() => Promise.reject(new Error("nobody awaits this")), 50);
  }
  if (name.startsWith("late")) return Promise.reject(new Error("the page is damaged"));
  return open(path, options);
};
