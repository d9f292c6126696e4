#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a Caravan checkpoint without Caravan: read_checkpoint.py FOLDER [TENSOR]; see checkpoint-format.md."""
import json
import pathlib
import sys

import h5py
import numpy
import xxhash


def read_tensor(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["kind"] != "caravan checkpoint" or manifest["version"] > 1:
        raise ValueError(f"{folder}: not a checkpoint of version 1")
    if name not in manifest["tensors"] and "store" in manifest:  # frozen: in the checkpoint of step 0
        return read_tensor(folder / manifest["store"]["folder"], name)
    tensor = manifest["tensors"][name]
    whole = None
    for piece in tensor["pieces"]:
        with h5py.File(folder / piece["shard"]) as shard:
            data = shard[piece["dataset"]][...]
        for block, expected in enumerate(piece["hashes"]):
            rows = data[block * piece["block_rows"] : (block + 1) * piece["block_rows"]]
            if xxhash.xxh3_64_hexdigest(rows.tobytes()) != expected:
                raise ValueError(f"{folder / piece['shard']}: {name}, block {block} of the piece is damaged")
        whole = numpy.empty(tensor["shape"], data.dtype) if whole is None else whole
        whole[tuple(slice(o, o + e) for o, e in zip(piece["offset"], piece["extent"]))] = data
    return (whole.astype("uint32") << 16).view("float32") if tensor["dtype"] == "bfloat16" else whole


if __name__ == "__main__":
    checkpoint = pathlib.Path(sys.argv[1])
    if len(sys.argv) > 2:
        print(read_tensor(checkpoint, sys.argv[2]))
    else:
        print("\n".join(json.loads((checkpoint / "manifest.json").read_text())["tensors"]))
