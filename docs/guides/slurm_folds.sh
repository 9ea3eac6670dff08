#!/bin/bash
# Trains on all folds of DFEW with Slurm: one array task for each fold, on two machines with four GPUs each.
#
#   sbatch --array=1-5 slurm_folds.sh              # five folds, as many at a time as there are machines
#   sbatch --array=1-5%1 slurm_folds.sh            # one fold after the other
#
# Submit it again to continue after an interruption or a time limit. When all folds are complete, this prints the table:
#
#   tgdfer train --resume --folds all --output runs/dfew
#
# Not run on a cluster by the authors. Check partition, account and paths.

#SBATCH --job-name=tgdfer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
# SIGTERM arrives five minutes before the end, so that the finished epochs are kept.
#SBATCH --signal=TERM@300
#SBATCH --output=%x-%A-%a.log

set -euo pipefail

DATA=${DATA:-$HOME/DFEW}
OUTPUT=${OUTPUT:-runs/dfew}
GPUS=${SLURM_GPUS_ON_NODE:-4}
FOLD=$SLURM_ARRAY_TASK_ID

# The first machine of the job is the meeting point of all processes. Each fold has a port of its own.
HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
MAIN=${HOSTS%%$'\n'*}
PORT=$((20000 + SLURM_JOB_ID % 10000 + FOLD))

# The folder of the fold exists if this is not the first attempt.
RESUME=()
if [ -e "$OUTPUT/fold_$FOLD/config.yaml" ]; then RESUME=(--resume); fi

# Machines without access to the internet need a filled cache of the Hub. `exec` passes signals on.
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
# Each process has a part of the processors for its threads and its `--workers`.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / GPUS / 2))

# One task for each machine, which starts a process for each of its GPUs. SLURM_NODEID is known only inside the task.
# With 8 processes of 6 clips, an update has 48 clips as in the recipe.
exec srun bash -c '
    exec accelerate launch --multi_gpu --num_machines "$SLURM_NNODES" --num_processes "$1" \
        --machine_rank "$SLURM_NODEID" --main_process_ip "$2" --main_process_port "$3" --mixed_precision bf16 \
        --rdzv_backend static -m tgdfer "${@:4}"
' launch "$((SLURM_NNODES * GPUS))" "$MAIN" "$PORT" \
    train --recipe dfew --backbone vit-b-16 --data-root "$DATA" --folds "$FOLD" --output "$OUTPUT" \
    --batch-size 6 --gradient-accumulation 1 ${RESUME[@]+"${RESUME[@]}"}
