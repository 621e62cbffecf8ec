// Fills a store whose files may not grow past a limit of this process until a write fails, and prints what
// that is called, and what a job says that ends then.   deno run limited_store.ts DATA_FOLDER

import { storageFailure } from "../../../lib/errors.ts";
import { Store } from "../../../lib/jobs/store.ts";

if (import.meta.main) {
  const store = new Store(Deno.args[0]!);
  store.addJob("job-0", "train", {});
  let failure: unknown = null;
  // Small rows: what fails is the write of the whole transaction, when it is committed.
  for (let i = 1; i < 10_000 && failure === null; i++) {
    try {
      store.addJob(`job-${i}`, "train", { text: "x".repeat(500) });
    } catch (error) {
      failure = error;
    }
  }
  store.record("job-0", {}, [{ type: "log", data: { message: "held" } }]);
  store.endJob("job-0", "cancelled", null);
  console.log(JSON.stringify({
    code: storageFailure(failure)?.code ?? String(failure),
    status: store.job("job-0")!.status,
    events: store.events("job-0", 1, 10).map(({ type }) => type),
  }));
  Deno.exit(0);
}
