"""Which classes of a model the classes of a data set are."""

from __future__ import annotations

import pytest

from visavis.datasets import class_map
from visavis.datasets.common_names import COCO, VOC
from visavis.datasets.voc import VOC as VocPictures
from visavis.errors import InputError
from visavis.labels import Labels, imagenet_labels

# COCO's 80 classes by hand, with the display names of the ImageNet classes that each comprises. Birds and dogs are
# checked apart.
EXPECTED = {
    "person": ["ballplayer", "groom", "scuba diver"],
    "bicycle": ["bicycle-built-for-two", "mountain bike"],
    "car": [
        *("beach wagon", "cab", "convertible", "jeep", "limousine", "minivan", "Model T", "racer", "sports car"),
    ],
    "motorcycle": ["moped", "motor scooter"],
    "airplane": ["airliner", "warplane"],
    "bus": ["minibus", "school bus", "trolleybus"],
    "train": [
        *("bullet train", "electric locomotive", "freight car", "passenger car", "steam locomotive", "streetcar"),
    ],
    "truck": ["fire engine", "garbage truck", "moving van", "pickup", "tow truck", "trailer truck"],
    "boat": [
        *("aircraft carrier", "canoe", "catamaran", "container ship", "fireboat", "gondola", "lifeboat", "liner"),
        *("pirate", "schooner", "speedboat", "trimaran", "yawl"),
    ],
    "traffic light": ["traffic light"],
    "fire hydrant": [],
    "stop sign": ["street sign"],
    "parking meter": ["parking meter"],
    "bench": ["park bench"],
    "cat": ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"],
    "horse": ["sorrel"],
    "sheep": ["ram", "bighorn"],
    "cow": ["ox"],
    "elephant": ["tusker", "Indian elephant", "African elephant"],
    "bear": ["brown bear", "American black bear", "ice bear", "sloth bear"],
    "zebra": ["zebra"],
    "giraffe": [],
    "backpack": ["backpack"],
    "umbrella": ["umbrella"],
    "handbag": ["purse"],
    "tie": ["bolo tie", "bow tie", "Windsor tie"],
    "suitcase": [],
    "frisbee": [],
    "skis": ["ski"],
    "snowboard": [],
    "sports ball": [
        *("baseball", "basketball", "croquet ball", "golf ball", "ping-pong ball", "rugby ball", "soccer ball"),
        *("tennis ball", "volleyball"),
    ],
    "kite": [],
    "baseball bat": [],
    "baseball glove": [],
    "skateboard": [],
    "surfboard": [],
    "tennis racket": ["racket"],
    "bottle": ["beer bottle", "pill bottle", "pop bottle", "water bottle", "wine bottle"],
    "wine glass": ["goblet"],
    "cup": ["coffee mug", "cup"],
    "fork": [],
    "knife": ["cleaver"],
    "spoon": ["wooden spoon"],
    "bowl": ["mixing bowl", "soup bowl"],
    "banana": ["banana"],
    "apple": ["Granny Smith"],
    "sandwich": ["cheeseburger"],
    "orange": ["orange"],
    "broccoli": ["broccoli"],
    "carrot": [],
    "hot dog": ["hotdog"],
    "pizza": ["pizza"],
    "donut": [],
    "cake": [],
    "chair": ["barber chair", "folding chair", "rocking chair", "throne"],
    "couch": ["studio couch"],
    "potted plant": ["pot"],
    "bed": ["four-poster"],
    "dining table": ["dining table"],
    "toilet": ["toilet seat"],
    "tv": ["monitor", "screen", "television"],
    "laptop": ["laptop", "notebook"],
    "mouse": ["mouse"],
    "remote": ["remote control"],
    "keyboard": ["computer keyboard"],
    "cell phone": ["cellular telephone"],
    "microwave": ["microwave"],
    "oven": ["stove"],
    "toaster": ["toaster"],
    "sink": ["washbasin"],
    "refrigerator": ["refrigerator"],
    "book": ["comic book", "book jacket"],
    "clock": ["analog clock", "digital clock", "wall clock"],
    "vase": ["vase"],
    "scissors": [],
    "teddy bear": ["teddy"],
    "hair drier": ["hand blower"],
    "toothbrush": [],
}


def test_coco_s_names_by_hand():
    labels = imagenet_labels()
    found = class_map(tuple(COCO), labels, "coco")
    assert set(EXPECTED) | {"bird", "dog"} == set(COCO)
    assert len(COCO) == 80
    for name, expected in EXPECTED.items():
        assert sorted(labels[index] for index in found[name]) == sorted(expected), name


def test_dogs_and_birds():
    labels = imagenet_labels()
    found = class_map(("bird", "dog"), labels, "coco")
    assert found["dog"] == tuple(range(151, 269))
    assert [labels[index] for index in (150, 151, 268, 269)] == [
        *("sea lion", "Chihuahua", "Mexican hairless", "timber wolf"),
    ]
    ends = [(7, 24), (80, 100), (127, 146)]
    assert found["bird"] == tuple(index for first, last in ends for index in range(first, last + 1))
    beside = [labels[index] for first, last in ends for index in (first - 1, first, last, last + 1)]
    assert beside == [
        *("stingray", "cock", "great grey owl", "European fire salamander"),
        *("centipede", "black grouse", "black swan", "tusker"),
        *("isopod", "white stork", "albatross", "grey whale"),
    ]
    # No class is of two kinds.
    every = [index for indices in class_map(tuple(COCO), labels, "coco").values() for index in indices]
    assert len(every) == len(set(every))


def test_voc_s_names(tmp_path):
    labels = imagenet_labels()
    found, coco = class_map(tuple(VOC), labels, "voc"), class_map(tuple(COCO), labels, "coco")
    assert len(VOC) == 20
    assert VocPictures.vocabulary == "voc"
    renamed = {"aeroplane": "airplane", "motorbike": "motorcycle", "diningtable": "dining table", "sofa": "couch"}
    renamed |= {"pottedplant": "potted plant", "tvmonitor": "tv"}
    assert found == {name: coco[renamed.get(name, name)] for name in VOC}
    assert all(found.values())


def test_names_ids_and_synonyms():
    labels = imagenet_labels()
    classes = ["zebra", "Indian_Elephant", "n02504458", "golden retriever", "Equus caballus", "hartebeest", "giraffe"]
    found = class_map(classes, labels)
    assert [found[name] for name in classes] == [(340,), (385,), (386,), (207,), (), (351,), ()]
    assert class_map(["Panthera leo", "Tinca tinca"], labels) == {"Panthera leo": (291,), "Tinca tinca": (0,)}


def test_a_common_name_is_the_last_resort():
    labels = imagenet_labels()
    found = class_map(["Dog", "kite", "tvmonitor", "cup"], labels)
    assert found["Dog"] == tuple(range(151, 269))
    # A user's kite is ImageNet's, the bird; COCO's is a toy.
    assert labels[found["kite"][0]] == "kite"
    assert class_map(["kite", "dog"], labels, "coco")["kite"] == ()
    assert found["tvmonitor"] == (664, 782, 851)
    assert found["cup"] == (968,)


def test_a_model_of_one_s_own():
    labels = Labels(["dog", "cat", "golden retriever"])
    assert class_map(["cat", "dog", "horse"], labels, "voc") == {"cat": (1,), "dog": (0,), "horse": ()}
    assert class_map(["Cat"], labels) == {"Cat": (1,)}
    assert class_map(["b"], Labels(["a", "c"], synonyms=[["x"], ["B", "d"]])) == {"b": (1,)}


def test_some_of_imagenet_s_classes():
    """By their ids, or by their names alone, in another order."""
    imagenet = imagenet_labels()
    chosen = [386, 207, 21, 151, 385]
    names = [imagenet[index] for index in chosen]
    ids = [imagenet.wordnet_ids[index] for index in chosen]
    for labels in (Labels(list("abcde"), wordnet_ids=ids), Labels(names)):
        found = class_map(["elephant", "dog", "kite", "cat"], labels, "coco")
        assert found == {"elephant": (0, 4), "dog": (1, 3), "kite": (), "cat": ()}
        assert class_map(ids, labels) == {wnid: (place,) for place, wnid in enumerate(ids)}
    assert class_map([ids[0], "n99999999", imagenet.wordnet_ids[0]], Labels(names)) == {
        ids[0]: (0,),
        "n99999999": (),
        imagenet.wordnet_ids[0]: (),
    }


def test_ids_beyond_imagenet_s_1000():
    """ "dog" itself has an id, but is no class of the 1000."""
    labels = Labels(["dog", "Chihuahua"], wordnet_ids=["n02084071", "n02085620"])
    assert class_map(["n02084071"], labels) == {"n02084071": (0,)}
    assert class_map(["dog"], labels, "coco") == {"dog": (0,)}


def test_a_name_of_two_classes_is_refused():
    labels = imagenet_labels()
    with pytest.raises(
        InputError, match=r"'crane' names 2 classes .*: crane \(bird\) \(134\), crane \(machine\) \(517\)"
    ):
        class_map(["zebra", "crane"], labels)
    with pytest.raises(InputError, match="'a' names 2 classes of the model"):
        class_map(["a"], Labels(["a", "b", "a"]))
    # As it is spelled, it is one of them.
    assert class_map(["A"], Labels(["a", "A"])) == {"A": (1,)}


def test_nothing_in_common_is_refused():
    with pytest.raises(
        InputError, match=r"none of the data set's 2 classes \(giraffe, fork, …\); its own are called te"
    ):
        class_map(["giraffe", "fork"], imagenet_labels(), "coco")
    with pytest.raises(InputError, match="there is no vocabulary 'kitti'; there are coco, voc"):
        class_map(["cat"], imagenet_labels(), "kitti")
