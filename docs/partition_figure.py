"""The README's picture: importance of LoRA elements for System 1 against System 2, the paper's figure, from a
partition that GET /v1/partitions/{id}/download answered. Needs numpy and matplotlib.

    ./run demo && python docs/partition_figure.py demo/out/partition.safetensors docs/partition.png
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

REGIONS = {3: ("shared", "#7b5ea7"), 1: ("System 1 only", "#2f7ec0"), 2: ("System 2 only", "#d9762b"), 0: ("inactive", "#c4c8cc")}


def column(path, ending, dtype):
    """Every tensor whose name ends so, one after the other."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    names = sorted(name for name in header if name.endswith(ending))
    parts = [header[name]["data_offsets"] for name in names]
    return np.concatenate([np.frombuffer(data[begin:end], dtype) for begin, end in parts])


def main(partition, picture):
    system1 = column(partition, ".importance.system1", "<f4")
    system2 = column(partition, ".importance.system2", "<f4")
    region = column(partition, ".region", "u1")
    shown = np.random.default_rng(0).permutation(len(region))[:6000]
    figure, axes = plt.subplots(figsize=(7.2, 4.6), dpi=130)
    for number, (label, colour) in reversed(REGIONS.items()):
        here = shown[region[shown] == number]
        share = (region == number).mean()
        axes.scatter(system1[here], system2[here], s=4, linewidths=0, alpha=0.7, color=colour, label=f"{label}, {share:.0%}")
    low = np.quantile(np.concatenate([system1, system2]), 0.02)
    axes.set(xscale="log", yscale="log", xlim=(low, None), ylim=(low, None))
    axes.set(xlabel="importance for System 1", ylabel="importance for System 2")
    axes.legend(frameon=False, markerscale=3, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
