// Decompression of Parquet pages to a size that is stated beforehand: nothing is written past it,
// however much the compressed bytes would expand to. gzip, Brotli and Zstandard are the runtime's own,
// which stop there; of Snappy and LZ4 the libraries' decoders write into an array of that size.

import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { type CompressionCodec, snappyUncompress } from "hyparquet";
import { decompressLz4, decompressLz4Raw } from "hyparquet-compressors";

type Decompress = (input: Uint8Array, sizeBytes: number) => Uint8Array;

const native =
  (decode: (input: Uint8Array, options: { maxOutputLength: number }) => Uint8Array): Decompress =>
  (input, sizeBytes) => decode(input, { maxOutputLength: sizeBytes });

const codecs: Partial<Record<CompressionCodec, Decompress>> = {
  UNCOMPRESSED: (input) => input,
  SNAPPY: (input, sizeBytes) => {
    const output = new Uint8Array(sizeBytes);
    snappyUncompress(input, output);
    return output;
  },
  GZIP: native(gunzipSync),
  BROTLI: native(brotliDecompressSync),
  ZSTD: native(zstdDecompressSync),
  LZ4: (input, sizeBytes) =>
    isHadoopLz4(input) ? decompressLz4(input, sizeBytes) : decompressLz4Raw(input, sizeBytes),
  LZ4_RAW: decompressLz4Raw,
};

/**
 * Whether LZ4 blocks stand in Hadoop's frames: unpacked and packed size, 4 bytes each, then the block.
 * The library's decoder takes a size of 2 GiB and more for a negative one and can go back for ever.
 */
function isHadoopLz4(input: Uint8Array): boolean {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let at = 0;
  while (at + 8 < input.length) at += 8 + view.getUint32(at + 4);
  return at === input.length;
}

/**
 * Decompresses one page.
 * @throws {Error} when the codec is not known, or the bytes are damaged or give another size.
 */
export function decompress(
  codec: CompressionCodec,
  input: Uint8Array,
  sizeBytes: number,
): Uint8Array {
  const decode = codecs[codec];
  if (!decode) throw new Error(`its codec ${codec} is not supported`);
  // Writers leave out the compressed form of nothing.
  const page = sizeBytes === 0 ? new Uint8Array(0) : decode(input, sizeBytes);
  if (page.length !== sizeBytes) {
    throw new Error(`a page unpacks to ${page.length} bytes, its header says ${sizeBytes}`);
  }
  return page;
}
