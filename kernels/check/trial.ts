// One comparison of a variant with f64: random inputs, the dispatches, and what they should come to.

import type { Gpu } from "../gpu/gpu.ts";
import {
  bytesPerElement,
  type DType,
  elementCount,
  type Tensor,
  tensorBytes,
  type Texture,
} from "../gpu/tensor.ts";
import { nmse, normal } from "../reference/random.ts";
import { destroyWeight, uploadWeight, type Weight, type WeightType } from "../weight.ts";

/** An op, its ways to compute the same, and how to try one of them. */
export interface OpCheck {
  op: string;
  /** In the order in which this adapter would take them. */
  variants(gpu: Gpu): readonly string[];
  /** Records a variant's dispatches at odd sizes on a trial's inputs. */
  record(trial: Trial, variant: string): void;
}

type Values = ArrayLike<number>;

interface Expectation {
  tensor: Tensor;
  /** In f64, worked out only if the dispatches were run. */
  wanted: () => Values;
  isExact: boolean;
}

/** A NaN that no kernel makes: what is not written, and what is written past an output's end, shows. */
const guardWord = 0x7fc0dead;
const guardWords = 64;
/** NMSE. Rounding comes to 1e-13 on lavapipe and SwiftShader, a lost or doubled term to far more. */
const limit = 1e-9;

export class Trial {
  #seed = 1;
  #tensors: Tensor[] = [];
  #weights: Weight[] = [];
  #textures: Texture[] = [];
  #expectations: Expectation[] = [];

  constructor(readonly gpu: Gpu) {}

  /** Standard-normal values, others at each call and the same in each trial. */
  normal(count: number, scale = 1): Float32Array<ArrayBuffer> {
    return normal(count, this.#seed++, scale);
  }

  input(
    data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>,
    shape?: readonly number[],
    dtype?: DType,
  ): Tensor {
    return this.hold(this.gpu.upload("check.input", data, shape, dtype));
  }

  /** A tensor to be written, with guard words behind it, holding `start` where the op adds to it. */
  output(
    shape: readonly number[],
    dtype: DType = "f32",
    start?: Float32Array<ArrayBuffer>,
  ): Tensor {
    const words = tensorBytes(shape, dtype) / 4;
    const whole = this.gpu.tensor("check.output", [words + guardWords]);
    this.gpu.write(whole, new Uint32Array(words + guardWords).fill(guardWord));
    if (start) this.gpu.write(whole, start);
    return this.hold({ ...whole, shape, dtype });
  }

  /** A weight (N, K) on the GPU, and its values as the type rounds them. */
  weight(dtype: WeightType, [N, K]: readonly [number, number]): {
    weight: Weight;
    values: Float32Array<ArrayBuffer>;
  } {
    const { values, bytes } = rounded(this.normal(N * K), dtype);
    const weight = uploadWeight(this.gpu, "check.weight", { dtype, shape: [N, K], bytes });
    this.#weights.push(weight);
    return { weight, values };
  }

  /** A texture of (height, width) texels, four words each. */
  texture(words: Uint32Array<ArrayBuffer>, height: number, width: number): Texture {
    const texture = this.gpu.texture("check.texture", height, width);
    this.#textures.push(texture);
    this.gpu.writeTexture(texture, 0, [height, width], new Uint8Array(words.buffer));
    return texture;
  }

  /** Releases a tensor with the trial. */
  hold(tensor: Tensor): Tensor {
    this.#tensors.push(tensor);
    return tensor;
  }

  /** Expects f32 values of an output, to within rounding. */
  expect(tensor: Tensor, wanted: () => Values): void {
    this.#expectations.push({ tensor, wanted, isExact: false });
  }

  /** Expects whole numbers, to the bit; of a u8 tensor its bytes. */
  expectExactly(tensor: Tensor, wanted: () => Values): void {
    this.#expectations.push({ tensor, wanted, isExact: true });
  }

  /** Records what `work` dispatches; when it throws, what it took is given back. */
  record(work: () => void): void {
    try {
      this.gpu.scope(work);
    } catch (error) {
      // The scope has released all buffers; textures are left to be destroyed.
      this.#tensors = [];
      this.#weights = this.#weights.map((weight) => ({ ...weight, rows: [] }));
      throw error;
    }
  }

  /** Waits for the GPU and answers the largest NMSE. @throws {Error} saying what is wrong. */
  async compare(): Promise<number> {
    const read = await this.gpu.readWords(this.#expectations.map(({ tensor }) => tensor));
    let largest = 0;
    for (const [i, { tensor, wanted, isExact }] of this.#expectations.entries()) {
      const words = tensorBytes(tensor.shape, tensor.dtype) / 4;
      if (new Uint32Array(read[i]).subarray(words).some((word) => word !== guardWord)) {
        throw new Error("it wrote past the end of its output");
      }
      const error = difference(valuesOf(read[i], tensor), wanted(), isExact);
      if (!(error <= limit)) {
        throw new Error(
          isExact
            ? `${error} of ${elementCount(tensor.shape)} whole numbers differ from what is right`
            : `its results are off f64's by an NMSE of ${
              error.toExponential(1)
            }, ${limit} is allowed`,
        );
      }
      largest = Math.max(largest, error);
    }
    return largest;
  }

  /** Gives everything back. */
  async release(): Promise<void> {
    this.gpu.release(...this.#tensors);
    if (this.#weights.length > 0) await destroyWeight(this.gpu, ...this.#weights);
    if (this.#textures.length > 0) await this.gpu.destroy(...this.#textures);
  }
}

function valuesOf(words: ArrayBuffer, { shape, dtype }: Tensor): Values {
  const count = elementCount(shape);
  if (bytesPerElement[dtype] === 1) return new Uint8Array(words, 0, count);
  return dtype === "f32" ? new Float32Array(words, 0, count) : new Uint32Array(words, 0, count);
}

/** NMSE, or how many whole numbers differ. */
function difference(found: Values, wanted: Values, isExact: boolean): number {
  if (!isExact) return nmse(found, wanted);
  return Array.from(wanted).filter((value, i) => value !== found[i]).length;
}

/** f32 values cut to a type, and their bytes in it. */
export function rounded(
  values: Float32Array<ArrayBuffer>,
  dtype: WeightType,
): { values: Float32Array<ArrayBuffer>; bytes: Uint8Array<ArrayBuffer> } {
  if (dtype === "f32") return { values, bytes: new Uint8Array(values.buffer) };
  if (dtype === "f16") {
    const halves = new Float16Array(values);
    return { values: Float32Array.from(halves), bytes: new Uint8Array(halves.buffer) };
  }
  const words = new Uint32Array(values.buffer);
  const halves = Uint16Array.from(words, (word) => word >>> 16);
  return {
    values: new Float32Array(words.map((word) => word & 0xffff0000).buffer),
    bytes: new Uint8Array(halves.buffer),
  };
}
