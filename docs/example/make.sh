#!/usr/bin/env bash
# The worked example of docs/example.md: make.sh WORK writes its run folders to WORK and what the page shows to here.
# WORK must lie on the same machine; about ten minutes on two cores. Needs .venv of `make test` (for the figures).
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mkdir -p "$1" && cd "$1" && pwd)"
refeval="$here/../../.venv/bin/refeval"
python="$here/../../.venv/bin/python"
cd "$work"

# Two runs of ready-made pixels, and one of a real architecture with random weights.
"$refeval" run --model copy-paste --suite sprites --tiny --out copy-paste
"$refeval" render --model copy-paste --suite sprites --seed 1 --out again
"$refeval" run --model "videos:again/videos" --suite sprites --tiny --out ready-clips
"$refeval" run --model refalign-tiny:steps=8 --suite sprites --tiny --out refalign-tiny

"$refeval" report copy-paste ready-clips refalign-tiny --out report --copy-clips

# Scores of random networks mean nothing, so comparing them has to be allowed by name.
allow="--allow random-weights --allow-missing"
# A tiny Wan model renders 17 frames where the suite asks for 16.
clip="--allow clip"
"$refeval" baseline copy-paste --out baseline.json
"$refeval" compare baseline.json ready-clips $allow --gate MotionAmplitude:-1 \
  --gate FaceSim:significant --junit gate-passes.xml | tee gate-passes.txt
"$refeval" compare baseline.json refalign-tiny $allow $clip --gate MotionAmplitude:-1 \
  --gate FaceSim:significant --junit gate-fails.xml | tee gate-fails.txt && exit 1 || test $? = 7

"$refeval" study make --arms copy-paste,refalign-tiny --cases 16 --raters 12 --questions quality,reference --out study
"$python" "$here/simulated_raters.py" study answers.csv
"$refeval" study tally study answers.csv --runs copy-paste,refalign-tiny --out study-report

cp gate-*.txt gate-*.xml "$here"
cp report/tables/{main,protocols}.{md,tex} report/figures/{profiles,distributions,protocols,categories}.svg "$here"
cp study-report/tally.md study-report/votes.svg "$here"
