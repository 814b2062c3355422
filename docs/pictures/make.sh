#!/bin/sh
# Makes the pictures of README.md and docs/ anew. All of them show the network that comes with torchloupe and free
# pictures: no picture of a data set goes in. Needs torchloupe and, for the picture of the report, chromium on the PATH.
set -eu
cd "$(dirname "$0")"
unset TORCHLOUPE_DATA
export TORCHLOUPE_OFFLINE=1

torchloupe show maximize cifar10 --layer output --copies 1 --columns 5 --no-title --out classes.png
torchloupe show filters cifar10 --channels 0-39 --columns 10 --no-title --out filters.png
torchloupe show maximize cifar10 --layer layer3.0 --channels 0-31 --copies 1 --columns 8 --out units.png
torchloupe show feature-maps cifar10 --layer layer1.0 --channels 0-15 --pictures samples:11 --overlay --out maps.png
torchloupe show invert cifar10 --layer layer2.1 --pictures samples:0-7 --out inversion.png
torchloupe show deconvnet cifar10 --layer layer2.1 --pictures samples:0-7 --out deconvnet.png

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
torchloupe report cifar10 --out "$scratch/report.html" --quiet
for theme in light dark; do
  chromium --headless --no-sandbox --hide-scrollbars --window-size=1280,900 --virtual-time-budget=4000 \
    --blink-settings=preferredColorScheme=$([ $theme = dark ] && echo 0 || echo 1) \
    --screenshot="report-$theme.png" "file://$scratch/report.html"
done
rm -f ./*.json ./*.safetensors ./*-2.png  # the numbers behind them, and second pages
