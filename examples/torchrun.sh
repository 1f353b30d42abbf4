#!/bin/sh
# Masks by all GPUs of one machine, a process and a shard of the images for each:
#
#     examples/torchrun.sh photos --labels labels.csv --out masks --classes voc12 --model ViT-B-16 --pretrained openai
#
# PROCESSES=4 examples/torchrun.sh ... for another number. Without a GPU torchrun starts a process for each CPU, and
# sets each to one thread. Run it again to go on where it stopped; `clipes status masks` tells how far it is.
#
# torchrun ends all processes when one returns an error. Bad images must not: --max-failure-rate 1.
exec torchrun --standalone --nproc-per-node "${PROCESSES:-auto}" --no-python \
    clipes generate "$@" --max-failure-rate 1
