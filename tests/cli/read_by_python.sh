#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/read_checkpoint.py, which shares no code with the program, reads what the program wrote: the same values as
# HDF5's own view of the shards, frozen ones through the store, and no damaged block.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

python=
for candidate in "${CARAVAN_PYTHON:-}" python3 /usr/bin/python3; do
  [ -n "$python" ] || { "$candidate" -c 'import h5py, xxhash' 2>/dev/null && python=$candidate; }
done
[ -n "$python" ] || { say "skipped: no Python with h5py and xxhash"; exit 77; }

make_origin 2 2 4 2 2
start train || fail "train: exit $?"
trained=$(checkpoint_folder origin 2)
cat >"$work/compare.py" <<'PYTHON'
import pathlib, sys
import h5py, numpy
sys.path.insert(0, sys.argv[1])
from read_checkpoint import json, read_tensor
trained, step_0 = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
compared = 0
for folder in (trained, step_0):
    with h5py.File(folder / "master.h5") as view:
        for name, tensor in json.loads((folder / "manifest.json").read_text())["tensors"].items():
            values = read_tensor(folder, name)
            assert list(values.shape) == tensor["shape"] and numpy.isfinite(values).all(), name
            if tensor["dtype"] != "bfloat16":
                assert (values == view[name][...]).all(), name
            compared += 1
frozen = "model.embed_tokens.weight"
assert (read_tensor(trained, frozen) == read_tensor(step_0, frozen)).all()
assert (read_tensor(trained, "model.layers.0.mlp.moe_adapter.router.weight")
        != read_tensor(step_0, "model.layers.0.mlp.moe_adapter.router.weight")).any()
print("tensors:", compared)
PYTHON
"$python" "$work/compare.py" "$CARAVAN_SOURCE/docs" "$trained" "$(checkpoint_folder origin 0)" >"$work/output" 2>&1 ||
  fail "the values differ"
[ "$(sed -n 's/^tensors: //p' "$work/output")" -gt 20 ] || fail "hardly anything was compared"

# One bit in the middle of the data of every shard: some block of some tensor must be refused.
for shard in "$trained"/shard-*.h5; do
  middle=$(($(stat -c %s -- "$shard") / 2))
  byte=$(od -An -tu1 -j "$middle" -N 1 -- "$shard")
  printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$shard" bs=1 seek="$middle" conv=notrunc status=none
done
! "$python" "$work/compare.py" "$CARAVAN_SOURCE/docs" "$trained" "$(checkpoint_folder origin 0)" >"$work/output" 2>&1 ||
  fail "damage was read"
expect_output 'is damaged'
say "a reader of 30 lines reads what the program wrote, and refuses damage"
