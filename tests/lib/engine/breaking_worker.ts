// The real engine's Worker with ways to break it: a task whose model id begins with "test:" breaks what it
// names and is then run as any other (and fails, because there is no such model).

import "../../../lib/engine/worker.ts";
import type { EngineRequest } from "../../../lib/engine/protocol.ts";

declare const self: { onmessage: (event: MessageEvent<EngineRequest>) => void };

/** Every device that was opened. */
const devices: GPUDevice[] = [];
const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (descriptor) {
  const device = await request.call(this, descriptor);
  devices.push(device);
  return device;
};

const real = self.onmessage;
self.onmessage = (event) => {
  const { data } = event;
  if (data.type === "run" && data.task.kind === "chat") {
    switch (data.task.model.id) {
      case "test:reject":
        Promise.reject(new Error("nobody awaits this"));
        break;
      case "test:throw":
        setTimeout(() => {
          throw new Error("nobody catches this");
        }, 0);
        break;
      case "test:destroy":
        devices.at(-1)!.destroy();
    }
  }
  real.call(self, event);
};
