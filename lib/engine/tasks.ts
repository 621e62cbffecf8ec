// Which function runs which kind of task; each has a file of its own in tasks/.

import type { TaskContext } from "./context.ts";
import type { Task, TaskResults } from "./messages.ts";
import { chat } from "./tasks/chat.ts";
import { classify } from "./tasks/classify.ts";
import { describeModel } from "./tasks/describe_model.ts";
import { doctor } from "./tasks/doctor.ts";
import { evaluate } from "./tasks/evaluate.ts";
import { inspectFile } from "./tasks/inspect_file.ts";
import { partition } from "./tasks/partition.ts";
import { rethreshold } from "./tasks/rethreshold.ts";
import { train } from "./tasks/train.ts";

/** Runs a task to its end; those that need no GPU open none. */
export async function runTask(
  context: TaskContext,
  task: Task,
): Promise<TaskResults[keyof TaskResults]> {
  switch (task.kind) {
    case "classify":
      return await classify(await context.device(), task);
    case "partition":
      return await partition(await context.device(), task);
    case "rethreshold":
      return await rethreshold(await context.device(), task);
    case "train":
      return await train(await context.device(), task);
    case "evaluate":
      return await evaluate(await context.device(), task);
    case "chat":
      return await chat(await context.device(), task);
    case "describe_model":
      return await describeModel(context, task);
    case "inspect_file":
      return await inspectFile(context, task);
    case "doctor":
      return await doctor(await context.device(), task);
  }
}
