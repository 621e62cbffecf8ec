// Which function runs which kind of task; each has a file of its own in tasks/.

import type { TaskContext } from "./context.ts";
import type { GpuTask, TaskResults } from "./messages.ts";
import { chat } from "./tasks/chat.ts";
import { classify } from "./tasks/classify.ts";
import { doctor } from "./tasks/doctor.ts";
import { evaluate } from "./tasks/evaluate.ts";
import { partition } from "./tasks/partition.ts";
import { rethreshold } from "./tasks/rethreshold.ts";
import { train } from "./tasks/train.ts";

/** Runs a task to its end. */
export async function runTask(
  context: TaskContext,
  task: GpuTask,
): Promise<TaskResults[keyof TaskResults]> {
  switch (task.kind) {
    case "classify":
      return await classify(context, task);
    case "partition":
      return await partition(context, task);
    case "rethreshold":
      return await rethreshold(await context.device(), task);
    case "train":
      return await train(context, task);
    case "evaluate":
      return await evaluate(context, task);
    case "chat":
      return await chat(context, task);
    case "doctor":
      return await doctor(await context.device(), task);
  }
}
