#!/usr/bin/env bash
# The installed command line, used as a user does, from another folder. Usage: end_to_end.sh PATH/TO/visavis
set -euo pipefail

export NO_COLOR=1 COLUMNS=200 # plain text, no wrapped paths
visavis=$(realpath "${1:?usage: end_to_end.sh PATH/TO/visavis}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "end to end: $*" >&2
    exit 1
}

# expect TEXT COMMAND...: the command succeeds and prints TEXT.
expect() {
    local text=$1
    shift
    "$@" >printed 2>errors || fail "'${*##*/}' ended with status $?: $(cat printed errors)"
    grep --quiet --fixed-strings --ignore-case -- "$text" printed || fail "'${*##*/}' did not print '$text': $(cat printed)"
    echo "ok  ${*##*/}"
}

# is_png FILE: there is a picture, not an empty or half-written file.
is_png() {
    [[ -s $1 ]] || fail "$1 is missing or empty"
    [[ $(head -c 8 "$1" | od -An -tx1 | tr -d ' \n') == 89504e470d0a1a0a ]] || fail "$1 is no PNG"
}

expect clrp "$visavis" methods
expect efficientnet_lite0 "$visavis" models
expect --target "$visavis" explain --help

expect demo-output "$visavis" demo --output demo-output
pictures=(demo-output/*.png)
for picture in "${pictures[@]}"; do
    is_png "$picture"
done

# The demo's own picture serves as a photograph: the default model, the network's own choice of class.
"$visavis" explain "${pictures[0]}" --output why.png >printed 2>errors || fail "'visavis explain' failed: $(cat printed errors)"
is_png why.png
echo "ok  visavis explain"

# A model of the user's own, from the folder in which they work.
cat >own_nets.py <<'CODE'
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))
CODE
expect F.conv2d "$visavis" plan --model own_nets:build --size 32
grep --quiet 'own_nets:build is code of your own' errors || fail "nothing says that code is run: $(cat errors)"

# A data set of one picture: measured, and the same words again find it done.
mkdir photos
cp "${pictures[0]}" photos/photo.png
printf 'file,label,x0,y0,x1,y1\nphoto.png,tiger cat,0,0,300,300\n' >photos/labels.csv
for _ in first again; do
    expect "1 cases in 1 pictures" "$visavis" benchmark --dataset folder:photos --methods clrp \
        --metrics energy-in-box --output results
done
expect 'energy in the box' "$visavis" report results

# Units: those of one layer on generated pictures, the same words again, and one decision.
cat >unit_nets.py <<'CODE'
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 12))
CODE
printf '%s\n' disc square triangle star ring cross heart crescent flower arrow hourglass 'half disc' >unit-labels.txt
for _ in first again; do
    expect "Each of 5 units of layer 1" "$visavis" units --dataset 'scenes?count=6&size=32' --model unit_nets:build \
        --labels unit-labels.txt --size 28 --layer 1 --cards 1 --output units
    [[ -s units/units.html && -s units/units.parquet ]] || fail "'visavis units' left no page"
done
expect "Why " "$visavis" decide "${pictures[0]}" --output decision.png
is_png decision.png

# Shape or texture: the dimensions of one layer, and the decisions on three pictures whose shape and texture conflict.
expect "blocks.0: shape " "$visavis" shape-texture dimensions --count 4 --layer blocks.0 --output shape-texture
is_png shape-texture/dimensions.png
for both in cat1-dog1 cat2-cup1 dog1-cat1; do
    mkdir -p "conflicts/${both%%[0-9]*}"
    cp "${pictures[0]}" "conflicts/${both%%[0-9]*}/$both.png"
done
echo '{"cat": [281, 282], "dog": [207, 208], "cup": "espresso"}' >categories.json
expect "shape bias " "$visavis" shape-texture bias conflicts --categories categories.json --maps 1 --output shape-texture
is_png shape-texture/conflicts.png

# Explanation vectors: of a row of a table, by a forest that is fitted here.
{
    echo 'length (cm),width (cm),kind'
    for number in {1..24}; do
        echo "$number,$((number * 7 % 11)),$([[ $number -gt 12 ]] && echo long || echo short)"
    done
} >rows.csv
expect "a random forest says short" "$visavis" vectors rows.csv --target kind --row 9 --draws 50 --output vectors.png
is_png vectors.png

# Bad input: status 1, one sentence, nothing written.
status=0
"$visavis" explain no-such-picture.jpg --output never.png >printed 2>errors || status=$?
[[ $status == 1 ]] || fail "a missing picture ended with status $status, not 1"
grep --quiet no-such-picture.jpg errors || fail "the error does not name the missing picture: $(cat errors)"
! grep --quiet Traceback printed errors || fail "a missing picture ended in a traceback"
[[ ! -e never.png ]] || fail "a failed run left never.png behind"
echo "ok  visavis explain, missing picture"
