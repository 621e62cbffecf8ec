// What the demo needs of the HTTP API: JSON requests, uploads, downloads, and a job's events as they
// come (server-sent events; https://html.spec.whatwg.org/multipage/server-sent-events.html, of which
// ids, reconnecting and retry are left out: the server is in the same process).

/** A job as the API shows it, with the result's shape as the caller knows it. */
export interface Job<R> {
  id: string;
  kind: string;
  status: "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
  result: R;
  error: { message: string } | null;
}

export interface Progress {
  phase: string;
  done: number;
  total: number;
  unit: string;
  eta_s: number | null;
}

/** An event of a job: `data` is what its type carries. */
export interface JobEvent {
  type: string;
  data: Record<string, unknown>;
}

/** Splits a stream of server-sent events into events; comments are left out. */
export async function* parseEvents(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<JobEvent> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = new Map(
        block.split("\n").map((line) => {
          const at = line.indexOf(": ");
          return [line.slice(0, at), line.slice(at + 2)];
        }),
      );
      const data = fields.get("data");
      if (data !== undefined) {
        yield { type: fields.get("event") ?? "message", data: JSON.parse(data) };
      }
    }
  }
}

/** The API of one server. */
export class Client {
  /** `origin` is like http://127.0.0.1:8080. */
  constructor(readonly origin: string) {}

  /** @throws {Error} with the server's own words when it refuses. */
  async request(path: string, init?: RequestInit): Promise<Response> {
    const response = await fetch(this.origin + path, init);
    if (response.ok) return response;
    const text = await response.text();
    let reason = text;
    try {
      reason = JSON.parse(text).error.message;
    } catch {
      // Not the API's shape: the text as it is.
    }
    throw new Error(`${init?.method ?? "GET"} ${path} was answered ${response.status}: ${reason}`);
  }

  async get<T>(path: string): Promise<T> {
    return await (await this.request(path)).json();
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    const response = await this.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return await response.json();
  }

  /** Uploads a data set and answers the file's id. */
  async upload(filename: string, text: string): Promise<string> {
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", new Blob([text]), filename);
    const response = await this.request("/v1/files", { method: "POST", body: form });
    return (await response.json()).id;
  }

  /** The records of a JSON-lines file. */
  async records<T>(fileId: string): Promise<T[]> {
    const text = await (await this.request(`/v1/files/${fileId}/content`)).text();
    return text.trim().split("\n").map((line) => JSON.parse(line));
  }

  async download(path: string): Promise<Uint8Array<ArrayBuffer>> {
    return await (await this.request(path)).bytes();
  }

  /** Starts a job and follows it; answers its result. @throws {Error} when it does not succeed. */
  async run<R>(
    path: string,
    body: unknown,
    onEvent: (event: JobEvent) => void,
  ): Promise<R> {
    const { id } = await this.post<Job<R>>(path, body);
    const events = await this.request(`/v1/jobs/${id}/events`);
    for await (const event of parseEvents(events.body!)) onEvent(event);
    const job = await this.get<Job<R>>(`/v1/jobs/${id}`);
    if (job.status === "succeeded") return job.result;
    throw new Error(
      `The ${job.kind} job ${id} is ${job.status}${job.error ? `: ${job.error.message}` : ""}`,
    );
  }
}
