// Which function runs which kind of task; each has a file of its own in tasks/.

import type { TaskContext } from "./context.ts";
import type { Task, TaskResults } from "./messages.ts";
import { chat } from "./tasks/chat.ts";
import { classify } from "./tasks/classify.ts";
import { describeModel } from "./tasks/describe_model.ts";
import { doctor } from "./tasks/doctor.ts";
import { evaluate } from "./tasks/evaluate.ts";
import { partition } from "./tasks/partition.ts";
import { rethreshold } from "./tasks/rethreshold.ts";
import { train } from "./tasks/train.ts";

/** Runs a task to its end. */
export function runTask(
  context: TaskContext,
  task: Task,
): Promise<TaskResults[keyof TaskResults]> {
  switch (task.kind) {
    case "classify":
      return classify(context, task);
    case "partition":
      return partition(context, task);
    case "rethreshold":
      return rethreshold(context, task);
    case "train":
      return train(context, task);
    case "evaluate":
      return evaluate(context, task);
    case "chat":
      return chat(context, task);
    case "describe_model":
      return describeModel(context, task);
    case "doctor":
      return doctor(context, task);
  }
}
