"""The demo shows the cat for "tiger cat" and the cup for "espresso", as the paper promises of CLRP."""

import sys

import PIL.Image
import pytest

from visavis import demo
from visavis.errors import InputError, ModelError, OutputError


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("demo") / "made" / "if missing"
    return *demo.run_demo(folder, "cpu"), folder


def share_in_left_half(heat):
    """The share of positive evidence left of the middle column; heat (1, H, W)."""
    positive = heat[0].clamp(min=0)
    return float(positive[:, : positive.shape[1] // 2].sum() / positive.sum())


def test_the_cat_speaks_for_tiger_cat_and_the_cup_for_espresso(result):
    _, why, _ = result
    contrast = share_in_left_half(why.heatmap()), share_in_left_half(why.maps["contrast counterpart"])
    plain = share_in_left_half(why.maps["plain target"]), share_in_left_half(why.maps["plain counterpart"])
    assert contrast[0] > 0.9
    assert contrast[1] < 0.1
    # Plain LRP lights up both, whichever is asked for.
    assert plain[0] < contrast[0] - 0.2
    assert plain[1] > contrast[1] + 0.15


def test_the_network_sees_both(result):
    _, why, _ = result
    seen = {answer.name: answer.probability for answer in why.top[0]}
    assert seen["tiger cat"] > 0.05
    assert seen["espresso"] > 0.05
    assert why.question() == "Why tiger cat, and not espresso?"


def test_the_panel_exists(result):
    place, _, folder = result
    assert place.parent == folder
    assert [entry.name for entry in folder.iterdir()] == [place.name]
    with PIL.Image.open(place) as panel:
        panel.load()
        assert panel.format == "PNG"
        assert min(panel.size) > 900


def test_the_picture_is_cut_in_the_middle(result):
    """What the network sees are two halves, and no white margin."""
    _, why, _ = result
    picture = why.picture[0]
    assert picture.shape == (3, 224, 224)
    seam = (picture[:, :, 112] - picture[:, :, 111]).abs().mean()
    beside = (picture[:, :, 100] - picture[:, :, 99]).abs().mean()
    assert seam > 5 * beside
    border = picture[:, [0, -1], :].flatten(1), picture[:, :, [0, -1]].flatten(1)
    assert all(float((edge.amin(0) > 0.98).float().mean()) < 0.05 for edge in border)


def test_the_picture_is_the_same_each_time():
    pytest.importorskip("skimage")
    assert demo.demo_picture().tobytes() == demo.demo_picture().tobytes()


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ModelError, match=r"pip install 'visavis\[demo\]'"):
        demo.demo_picture()


def test_pictures_that_scikit_image_cannot_give(monkeypatch):
    skimage_data = pytest.importorskip("skimage.data")

    def offline():
        raise ConnectionError("no route to host")

    monkeypatch.setattr(skimage_data, "coffee", offline, raising=False)
    with pytest.raises(InputError, match="no route to host"):
        demo.demo_picture()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be made"):
            demo.run_demo(place)
