#!/bin/bash
# Masks by a Slurm array, a GPU and a shard of the images for each of its jobs:
#
#     sbatch examples/slurm_array.sh photos --labels labels.csv --out masks --classes voc12 \
#         --model ViT-B-16 --pretrained openai
#
# Another number of jobs, of which at most 16 run at a time: sbatch --array=0-63%16, and the same
# Submit it again to go on where it stopped; with as many jobs or others, the finished masks are kept. While it runs,
# `clipes status masks` tells how far it is.
#
#SBATCH --job-name=clipes
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=clipes-%A-%a.log

# The signal above lets a job that has run out of time finish the images in hand. srun passes it on.
srun clipes generate "$@" --workers "$((${SLURM_CPUS_PER_TASK:-2} - 1))"
