"""The classes of COCO and VOC and the sixteen of Geirhos et al., and which of ImageNet's 1000 classes each comprises.

The names are the data sets' own; the numbers are places in ImageNet's usual order (ILSVRC 2012). An ImageNet class is
listed where every object of it is also one of the named kind, or all but so (a street sign for a stop sign, a monitor
for a television). Where annotators would be of two minds, as over ambulances, it is left out. Nothing is listed where
ImageNet has no such class: its "kite" is a bird, COCO's a toy. What the sixteen comprise is as their authors decided.
"""

from __future__ import annotations


def _numbers(ranges: str) -> tuple[int, ...]:
    """Return the numbers of "3-5 8": 3, 4, 5 and 8."""
    bounds = [part.partition("-") for part in ranges.split()]
    return tuple(number for low, _, high in bounds for number in range(int(low), int(high or low) + 1))


_BIRD = "7-24 80-100 127-146"
_BOTTLE = "440 720 737 898 907"
_CAR = "436 468 511 609 627 656 661 751 817"
_CHAIR = "423 559 765 857"
_TRAIN = "466 547 565 705 820 829"
_BOAT = "403 472 484 510 554 576 625 628 724 780 814 871 914"

COCO: dict[str, tuple[int, ...]] = {
    name: _numbers(ranges)
    for name, ranges in {
        "person": "981-983",
        "bicycle": "444 671",
        "car": _CAR,
        "motorcycle": "665 670",
        "airplane": "404 895",
        "bus": "654 779 874",
        "train": _TRAIN,
        "truck": "555 569 675 717 864 867",
        "boat": _BOAT,
        "traffic light": "920",
        "fire hydrant": "",
        "stop sign": "919",
        "parking meter": "704",
        "bench": "703",
        "bird": _BIRD,
        "cat": "281-285",
        "dog": "151-268",
        "horse": "339",
        "sheep": "348 349",
        "cow": "345",
        "elephant": "101 385 386",
        "bear": "294-297",
        "zebra": "340",
        "giraffe": "",
        "backpack": "414",
        "umbrella": "879",
        "handbag": "748",
        "tie": "451 457 906",
        "suitcase": "",
        "frisbee": "",
        "skis": "795",
        "snowboard": "",
        "sports ball": "429 430 522 574 722 768 805 852 890",
        "kite": "",
        "baseball bat": "",
        "baseball glove": "",
        "skateboard": "",
        "surfboard": "",
        "tennis racket": "752",
        "bottle": _BOTTLE,
        "wine glass": "572",
        "cup": "504 968",
        "fork": "",
        "knife": "499",
        "spoon": "910",
        "bowl": "659 809",
        "banana": "954",
        "apple": "948",
        "sandwich": "933",
        "orange": "950",
        "broccoli": "937",
        "carrot": "",
        "hot dog": "934",
        "pizza": "963",
        "donut": "",
        "cake": "",
        "chair": _CHAIR,
        "couch": "831",
        "potted plant": "738",
        "bed": "564",
        "dining table": "532",
        "toilet": "861",
        "tv": "664 782 851",
        "laptop": "620 681",
        "mouse": "673",
        "remote": "761",
        "keyboard": "508",
        "cell phone": "487",
        "microwave": "651",
        "oven": "827",
        "toaster": "859",
        "sink": "896",
        "refrigerator": "760",
        "book": "917 921",
        "clock": "409 530 892",
        "vase": "883",
        "scissors": "",
        "teddy bear": "850",
        "hair drier": "589",
        "toothbrush": "",
    }.items()
}
"""COCO's 80 classes, in their order."""

VOC: dict[str, tuple[int, ...]] = {
    name: COCO[same]
    for name, same in {
        "aeroplane": "airplane",
        "bicycle": "bicycle",
        "bird": "bird",
        "boat": "boat",
        "bottle": "bottle",
        "bus": "bus",
        "car": "car",
        "cat": "cat",
        "chair": "chair",
        "cow": "cow",
        "diningtable": "dining table",
        "dog": "dog",
        "horse": "horse",
        "motorbike": "motorcycle",
        "person": "person",
        "pottedplant": "potted plant",
        "sheep": "sheep",
        "sofa": "couch",
        "train": "train",
        "tvmonitor": "tv",
    }.items()
}
"""VOC's 20 classes, in their order; what they comprise is as in COCO."""

GEIRHOS16: dict[str, tuple[int, ...]] = {
    name: _numbers(ranges)
    for name, ranges in {
        "airplane": "404",
        "bear": "294-297",
        "bicycle": "444 671",
        "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
        "boat": "472 554 625 814 914",
        "bottle": "440 720 737 898 899 901 907",
        "car": "436 511 817",
        "cat": "281-286",
        "chair": "423 559 765 857",
        "clock": "409 530 892",
        "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
        "elephant": "385 386",
        "keyboard": "508 878",
        "knife": "499",
        "oven": "766",
        "truck": "555 569 656 675 717 734 864 867",
    }.items()
}
"""The sixteen entry-level categories of cue conflict (Geirhos et al. 2019, arXiv 1811.12231), and what each comprises
there: 207 classes. A few of ImageNet's birds and dogs are in none, and the only oven is a rotisserie."""

VOCABULARIES = {"coco": COCO, "voc": VOC, "geirhos16": GEIRHOS16}
