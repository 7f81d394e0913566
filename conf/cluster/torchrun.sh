#!/usr/bin/env bash
# Train with torchrun on the devices of one machine, or of several that share a file system. Type the same line on each machine:
#   one machine:   bash torchrun.sh experiment=vae_baseline data.root=DATA output_dir=RUN
#   two machines:  NODES=2 NODE_RANK=0 HEAD=host1 bash torchrun.sh …   and NODE_RANK=1 on the other one
# Typed again, it continues the run in output_dir. DEVICES=2 with trainer=ddp_cpu behind it tries it without GPUs.
set -euo pipefail

nodes=${NODES:-1}
devices=${DEVICES:-$(nvidia-smi --list-gpus | wc -l)}
exec python -m torch.distributed.run \
    --nnodes "$nodes" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$devices" \
    --master-addr "${HEAD:-127.0.0.1}" --master-port "${PORT:-29500}" \
    -m pti.train resume=auto "$@" trainer.devices="$devices" +trainer.num_nodes="$nodes"
