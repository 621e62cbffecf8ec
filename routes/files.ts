// /v1/files: data sets come in as multipart uploads, streamed to disk, and what jobs wrote goes out.
// The ending of the name tells the format. An upload is looked at once it is stored; one that cannot be
// read is kept with the reason, as OpenAI does, and jobs that name it are refused.

import { z } from "@hono/zod-openapi";
import { InvalidRequest } from "../lib/errors.ts";
import { isId } from "../lib/jobs/ids.ts";
import { Inspector } from "../lib/jobs/inspect.ts";
import { type FileRow, fileStatuses } from "../lib/jobs/rows.ts";
import type { AppDeps } from "./deps.ts";
import { downloadFile } from "./download.ts";
import { refuseMissing } from "./errors.ts";
import { boundaryOf, partText, readMultipart } from "./multipart.ts";
import {
  deletedSchema,
  idParam,
  json,
  listObject,
  listSchema,
  newRouter,
  pageQuery,
  route,
} from "./schemas.ts";

const contentTypes = new Map([
  ["jsonl", "application/x-ndjson"],
  ["json", "application/json"],
  ["csv", "text/csv; charset=utf-8"],
  ["parquet", "application/vnd.apache.parquet"],
]);

export const fileSchema = z.object({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.number().int(),
  created_at: z.number().int(),
  filename: z.string(),
  purpose: z.string(),
  status: z.enum(fileStatuses).describe(
    "uploaded: stored, and not looked at yet. processed: it can be read as a data set. error: it " +
      "cannot, and a job that names it is refused.",
  ),
  status_details: z.string().nullable().describe("Why a file of the status error cannot be read."),
}).openapi("File");

function fileObject({ path: _, ...row }: FileRow): z.infer<typeof fileSchema> {
  return { ...row, object: "file" };
}

/** The last part of a name a client gave, with a known ending; it is shown, never opened. */
function checkedName(filename: string | null): string {
  const name = (filename ?? "").split(/[\\/]/).at(-1)!.slice(-200).toWellFormed();
  const ending = name.split(".").at(-1)!.toLowerCase();
  if (!name.includes(".") || !contentTypes.has(ending)) {
    throw new InvalidRequest(
      `Cannot tell the format of "${name}": its name must end in ` +
        `${[...contentTypes.keys()].map((one) => `.${one}`).join(", ")}.`,
      "file",
      "unknown_format",
    );
  }
  return name;
}

type Upload = Pick<FileRow, "id" | "bytes" | "filename" | "path">;

/** Streams the "file" part to disk and reads the fields beside it. */
async function receive(deps: AppDeps, request: Request): Promise<FileRow> {
  const boundary = boundaryOf(request.headers.get("content-type") ?? undefined);
  if (!request.body) throw new InvalidRequest("Cannot store a file: the body is empty.", "file");
  let upload: Upload | null = null;
  let purpose = "fine-tune";
  try {
    for await (const part of readMultipart(request.body, boundary)) {
      if (part.name === "file" && !upload) {
        const filename = checkedName(part.filename);
        const { max_upload_bytes: maxBytes } = deps.config.limits;
        upload = await deps.store.writeUpload(filename, part.chunks, maxBytes);
      } else if (part.name === "purpose") {
        purpose = await partText(part);
      } else {
        throw new InvalidRequest(
          `Cannot accept the field "${part.name}": an upload has "file" and "purpose", and stays ` +
            "until it is deleted.",
          part.name,
          "unknown_field",
        );
      }
    }
    if (!upload) throw new InvalidRequest('Cannot store a file: "file" is missing.', "file");
    if (upload.bytes === 0) {
      throw new InvalidRequest(`Cannot store "${upload.filename}": it is empty.`, "file");
    }
    if (!/^[\w-]{1,64}$/.test(purpose)) {
      throw new InvalidRequest(
        "Cannot accept the purpose: use letters, digits, _ and -.",
        "purpose",
      );
    }
    return deps.store.addFile({ ...upload, purpose }, "uploaded");
  } catch (error) {
    if (upload) await deps.store.discardUpload(upload.path);
    throw error;
  }
}

const uploadRoute = route({
  method: "post",
  path: "/v1/files",
  operationId: "uploadFile",
  tags: ["files"],
  summary: "Upload a data set (.jsonl, .json, .csv or .parquet)",
  request: {
    body: {
      required: true,
      content: {
        "multipart/form-data": {
          schema: {
            type: "object",
            required: ["file"],
            properties: {
              file: {
                type: "string",
                format: "binary",
                description:
                  "The samples; the name's ending tells the format. A .csv file names its " +
                  "fields in the first row, and has commas, semicolons or tabs between them.",
              },
              purpose: {
                type: "string",
                default: "fine-tune",
                description: "Kept with the file, for lists to choose by.",
              },
            },
          },
        },
      },
    },
  },
  responses: { 200: json(fileSchema, "The stored file.") },
});

const listRoute = route({
  method: "get",
  path: "/v1/files",
  operationId: "listFiles",
  tags: ["files"],
  summary: "List files",
  request: {
    query: pageQuery(10_000, 10_000).extend({
      purpose: z.string().optional().describe("Only files that were uploaded for it."),
    }),
  },
  responses: { 200: json(listSchema(fileSchema), "A page of files.") },
});

const getRoute = route({
  method: "get",
  path: "/v1/files/{id}",
  operationId: "retrieveFile",
  tags: ["files"],
  summary: "Retrieve a file's description",
  request: { params: idParam },
  responses: { 200: json(fileSchema, "The file.") },
});

const contentRoute = route({
  method: "get",
  path: "/v1/files/{id}/content",
  operationId: "downloadFile",
  tags: ["files"],
  summary: "Download a file",
  request: { params: idParam },
  responses: {
    200: {
      description: "The file's bytes, as the type that the ending of its name tells.",
      content: Object.fromEntries(
        [...contentTypes.values(), "application/octet-stream"].map((type) => [
          type.split(";")[0]!,
          { schema: { description: "The file as it was uploaded or written." } },
        ]),
      ),
    },
  },
});

const deleteRoute = route({
  method: "delete",
  path: "/v1/files/{id}",
  operationId: "deleteFile",
  tags: ["files"],
  summary: "Delete a file",
  request: { params: idParam },
  responses: { 200: json(deletedSchema, "It is gone.") },
});

export function filesRoutes(deps: AppDeps) {
  const { store, queue } = deps;
  const inspector = new Inspector(store, deps.engine);
  const find = (id: string) => (isId("file", id) && store.file(id)) || refuseMissing("file", id);
  return newRouter()
    .openapi(uploadRoute, async (c) => {
      const row = await receive(deps, c.req.raw);
      return c.json(fileObject(await inspector.inspect(row)), 200);
    })
    .openapi(
      listRoute,
      (c) => c.json(listObject(store.files(c.req.valid("query")), fileObject), 200),
    )
    .openapi(getRoute, (c) => c.json(fileObject(find(c.req.valid("param").id)), 200))
    .openapi(contentRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      return await downloadFile(c, store.resolve(row.path), {
        "content-type": contentTypes.get(row.filename.split(".").at(-1)!.toLowerCase()) ??
          "application/octet-stream",
        "content-disposition": `attachment; filename*=UTF-8''${encodeURIComponent(row.filename)}`,
      });
    })
    .openapi(deleteRoute, async (c) => {
      const row = find(c.req.valid("param").id);
      queue.refuseInUse(row.id);
      await store.removeFile(row);
      return c.json({ id: row.id, object: "file", deleted: true as const }, 200);
    });
}
