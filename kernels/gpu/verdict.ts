/** What comparing a variant with f64 on the adapter came to. */
export type Verdict =
  & {
    /** Of what was dispatched: kernels, sizes, parameters. */
    fingerprint: string;
    milliseconds: number;
  }
  & ({ right: true; error: number } | { right: false; reason: string });

/** The key of a variant in `gpu.verdicts`. */
export function variantKey(op: string, variant: string): string {
  return `${op}: ${variant}`;
}
