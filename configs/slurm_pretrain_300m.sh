#!/usr/bin/env bash
# Pretraining on 8 nodes of 4 GPUs with the config of a single machine: sbatch configs/slurm_pretrain_300m.sh
# Lightning reads nodes, tasks and ranks from SLURM. A job that ends or is requeued goes on where it was: the order of
# the samples, masks and crops included, also with another number of nodes if data.batch_size times devices stays the same.
#SBATCH --job-name=pretrain_300m
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=SIGUSR1@300
set -euo pipefail
RUN=runs/pretrain_300m
RESUME=()
if [[ -f "$RUN/last.ckpt" ]]; then RESUME=(--ckpt_path "$RUN/last.ckpt"); fi
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" prithvi fit -c configs/pretrain_300m.yaml \
  --trainer.num_nodes "$SLURM_NNODES" --trainer.devices 4 \
  --data.stores "[${STORES:?comma-separated folders of chip stores}]" \
  "${RESUME[@]}"
