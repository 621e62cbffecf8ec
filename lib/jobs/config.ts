// Every setting of the server with its bound and default. main.ts fills it from the environment
// and an optional JSON file of the same names; nothing else reads either.

import { z } from "zod";
import { covers, hostEntry } from "../par/teacher_address.ts";

const host = z.string().refine(
  (text) => hostEntry(text) !== null,
  "expected a host or host:port, without scheme and path",
);
const hostAndPort = z.string().refine(
  (text) => typeof hostEntry(text)?.port === "number",
  "expected host:port, without scheme and path",
);

/** A day at most: timers take no more than 24. */
const seconds = z.number().positive().max(86_400);

const limits = z.strictObject({
  /** Bytes of one uploaded file. */
  max_upload_bytes: z.number().int().min(1).default(2 * 2 ** 30),
  /** Bytes of any other request body. */
  max_body_bytes: z.number().int().min(1).default(4 * 2 ** 20),
  /** Bytes of all such bodies that are read or handled at a time; more are answered 503. */
  max_held_body_bytes: z.number().int().min(1).default(64 * 2 ** 20),
  /** A request of whose body nothing more comes for so long is answered 408. */
  body_timeout_seconds: seconds.default(30),
  /** The engine is started anew when it gives no sign of life for so long (lib/engine/engine.ts). */
  engine_silence_seconds: seconds.min(10).default(1800),
  /** A connection whose request's head is not there after so long is closed. */
  head_timeout_seconds: seconds.default(10),
  /** A connection whose client reads nothing of what waits for it in so long is closed. */
  connection_timeout_seconds: seconds.default(60),
  /** Connections at a time; each may hold a second descriptor, for the file it sends. */
  max_connections: z.number().int().min(1).default(256),
  /** Jobs waiting for their turn; more are answered 429. */
  max_queued_jobs: z.number().int().min(1).default(100),
  /** Chats at a time; more are answered 429. */
  max_chats: z.number().int().min(1).default(16),
  /** The longest `Prefer: wait`. */
  max_wait_seconds: z.number().min(0).max(86_400).default(3600),
  /** Time between comments that keep an event stream open. */
  heartbeat_seconds: seconds.default(15),
  /** Progress events of one job are at least this far apart. */
  progress_interval_ms: z.number().min(0).max(86_400_000).default(200),
  /** `max_tokens` of a chat completion that names none. */
  default_max_tokens: z.number().int().min(1).default(1024),
  max_scatter_points: z.number().int().min(1).default(100_000),
});

export const serverConfig = z.strictObject({
  host: z.string().min(1).default("127.0.0.1"),
  port: z.number().int().min(0).max(65535).default(8080),
  /** Folder of the store, uploads, partitions and adapters. */
  data: z.string().min(1).default(".lorapar"),
  /** Folder of base models; null leaves only the embedded ones. */
  models: z.string().min(1).nullable().default(null),
  api_key: z.string().min(1).nullable().default(null),
  /** Names besides loopback's and `host` that a request's Host header may carry. */
  allowed_hosts: z.array(z.string().min(1)).default([]),
  /** Origins of other sites whose pages may call this server (CORS). */
  allowed_origins: z.array(z.url()).default([]),
  /** Servers that a teacher's base_url may name: a host (any port), or host:port. */
  teacher_hosts: z.array(host).default(["localhost", "127.0.0.1", "::1"]),
  /** The environment variable that holds the key of the teachers' server at host:port. */
  teacher_keys: z.record(hostAndPort, z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/)).default({}),
  /** What exported adapters call a base, by its id here: a name on the Hugging Face hub, or a path. */
  base_model_names: z.record(z.string().min(1), z.string().min(1).max(500)).default({}),
  limits: limits.default(() => limits.parse({})),
});
export type ServerConfig = z.infer<typeof serverConfig>;

/** The variable that holds the key of a teacher's server; null when it has none. */
export function keyVariable({ teacher_keys }: ServerConfig, url: URL): string | null {
  return Object.entries(teacher_keys).find(([entry]) => covers(entry, url))?.[1] ?? null;
}

/** Whether a host name or address is this machine only. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, "").toLowerCase();
  return name === "localhost" || name.endsWith(".localhost") || name === "::1" ||
    /^127(\.\d{1,3}){3}$/.test(name);
}
