// A server that has used up its file descriptors and then frees them, for listen_test.ts: run with few
// of them. Prints its port, and a line when they have run out and when they are free again.

import { listen } from "../../routes/listen.ts";
import { appFixture } from "./fixture.ts";

const f = await appFixture({ port: 0, limits: { max_connections: 8 } });
const { port } = await listen(f.app.fetch, f.base.config);
const begun = Promise.withResolvers<void>();
Deno.addSignalListener("SIGUSR1", () => begun.resolve());
console.log(port);
await begun.promise;
const files: Deno.FsFile[] = [];
try {
  while (true) files.push(Deno.openSync(Deno.execPath()));
} catch {
  console.log("none left");
}
await new Promise((resolve) => setTimeout(resolve, 500));
for (const file of files) file.close();
console.log("free");
