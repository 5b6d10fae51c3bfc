"""Any number of pictures: each gets the explanation that it gets alone, in its order, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis import streams
from visavis.errors import PictureError, SameClassError

LABELS = ["cat", "dog", "cup", "zebra"]


def prepared(picture: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture, dtype=np.float64) / 255).permute(2, 0, 1)


def classifier(preprocess: Callable[[PIL.Image.Image], Tensor] = prepared) -> vv.Classifier:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))
    return vv.Classifier(module.double().eval(), preprocess=preprocess, labels=LABELS, bounds=(0, 1))


def picture(seed: int, side: int = 10) -> PIL.Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return PIL.Image.fromarray(values)


def sizes_of(model: vv.Classifier) -> list[int]:
    """Of how many pictures each forward pass was."""
    sizes: list[int] = []
    model.module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes


def assert_same(found: vv.Explanation, alone: vv.Explanation) -> None:
    torch.testing.assert_close(found.relevance, alone.relevance, rtol=1e-9, atol=1e-12)
    assert found.targets[0].name == alone.targets[0].name
    assert found.targets[0].probability == pytest.approx(alone.targets[0].probability)
    assert torch.equal(found.picture, alone.picture)
    assert found.foils == alone.foils
    torch.testing.assert_close(found.maps["plain target"], alone.maps["plain target"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 100])
@pytest.mark.parametrize(
    "options", [{}, {"target": "cup", "foil": "dog"}, {"method": "lrp"}, {"signed": True}], ids=str
)
def test_each_picture_gets_the_explanation_that_it_gets_alone(batch_size: int | None, options: dict[str, Any]) -> None:
    model, pictures = classifier(), [picture(seed) for seed in range(7)]
    found = list(vv.explain_each(model, pictures, batch_size=batch_size, **options))
    assert [source for source, _ in found] == pictures
    for source, why in found:
        assert len(why) == 1
        alone = vv.explain(model, source, **options)
        torch.testing.assert_close(why.relevance, alone.relevance, rtol=1e-9, atol=1e-12)
        if options.get("method") != "lrp":
            assert_same(why, alone)


def test_batches_hold_pictures_of_one_size_that_follow_each_other() -> None:
    model = classifier()
    sizes = sizes_of(model)
    sides = [10, 10, 10, 12, 10, 12, 12]
    pictures = [picture(place, side) for place, side in enumerate(sides)]
    found = list(vv.explain_each(model, pictures, batch_size=2))
    assert sizes == [2, 1, 1, 1, 2]
    assert [why.picture.shape[-1] for _, why in found] == sides
    assert [source for source, _ in found] == pictures


def test_paths_arrays_and_tensors_mix(tmp_path: Path) -> None:
    model = classifier()
    picture(1).save(tmp_path / "a.png")
    sources = [tmp_path / "a.png", np.array(picture(2)), prepared(picture(3)), str(tmp_path / "a.png")]
    for source, why in vv.explain_each(model, sources, batch_size=4):
        assert_same(why, vv.explain(model, source))


def test_pictures_are_taken_as_they_are_needed_and_no_more_than_some_batches_ahead() -> None:
    taken: list[int] = []

    def endless() -> Iterator[PIL.Image.Image]:
        place = 0
        while True:
            taken.append(place)
            yield picture(place)
            place += 1

    explained = vv.explain_each(classifier(), endless(), batch_size=3, workers=2)
    assert taken == []
    for count in range(1, 11):
        next(explained)
        assert len(taken) <= count + 3 * 3 + 2
    explained.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("visavis-decode")]


def test_the_next_are_decoded_while_one_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = threading.Semaphore(0)

    def preprocess(one: PIL.Image.Image) -> Tensor:
        decoded.release()
        return prepared(one)

    explain, seen = streams.explain, []

    def explained(*args: Any, **kwargs: Any) -> vv.Explanation:
        # Its own picture, and the one after it, which nobody has asked for yet.
        seen.append(all(decoded.acquire(timeout=20) for _ in range(2 if not seen else 1)))
        return explain(*args, **kwargs)

    monkeypatch.setattr(streams, "explain", explained)
    next(vv.explain_each(classifier(preprocess), [picture(seed) for seed in range(5)], workers=1))
    assert seen == [True]


def test_order_is_kept_when_a_picture_takes_longer_to_decode() -> None:
    def preprocess(one: PIL.Image.Image) -> Tensor:
        time.sleep(0.2 if one.getpixel((0, 0)) == pictures[0].getpixel((0, 0)) else 0)
        return prepared(one)

    pictures = [picture(seed) for seed in range(6)]
    found = list(vv.explain_each(classifier(preprocess), pictures, workers=4))
    assert [source for source, _ in found] == pictures


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_bad_picture_is_named_and_costs_the_others_nothing(batch_size: int, tmp_path: Path) -> None:
    model = classifier()
    paths = [tmp_path / f"{place}.png" for place in range(6)]
    for place, path in enumerate(paths):
        picture(place).save(path)
    paths[2].write_text("no picture")
    paths[5].unlink()
    passed: list[tuple[Any, Exception]] = []
    found = list(
        vv.explain_each(model, paths, batch_size=batch_size, on_error=lambda one, error: passed.append((one, error)))
    )
    assert [source for source, _ in found] == [paths[0], paths[1], paths[3], paths[4]]
    assert [source for source, _ in passed] == [paths[2], paths[5]]
    assert all(isinstance(error, PictureError) and one.name in str(error) for one, error in passed)
    for source, why in found:
        assert_same(why, vv.explain(model, source))


def test_without_anyone_to_tell_a_bad_picture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"a\.png"):
        list(vv.explain_each(classifier(), [picture(0), tmp_path / "a.png"]))


@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_picture_of_the_foil_itself_costs_the_others_nothing(batch_size: int) -> None:
    model = classifier()
    with torch.no_grad():
        model.module[-1].bias.zero_()  # type: ignore[index, union-attr, operator]
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 20, 20), (250, 250, 250)] * 3
    pictures = [PIL.Image.new("RGB", (10, 10), colour) for colour in colours]
    best = [vv.explain(model, one).targets[0].name for one in pictures]
    assert len(set(best)) > 1
    passed: list[Any] = []

    def on_error(one: Any, error: Exception) -> None:
        assert isinstance(error, SameClassError)
        passed.append(one)

    found = list(vv.explain_each(model, pictures, foil=best[0], batch_size=batch_size, on_error=on_error))
    assert passed == [one for one, name in zip(pictures, best, strict=True) if name == best[0]]
    assert [source for source, _ in found] == [one for one in pictures if one not in passed]


def test_what_is_wrong_for_all_ends_it_at_once() -> None:
    told: list[Any] = []
    with pytest.raises(vv.InputError, match="zebr"):
        list(vv.explain_each(classifier(), [picture(0), picture(1)], "zebr", on_error=lambda *what: told.append(what)))
    assert told == []


@pytest.mark.parametrize("numbers", [{"batch_size": 0}, {"workers": 0}, {"batch_size": 2.5}, {"workers": "2"}])
def test_numbers_below_one_are_refused_before_anything_is_read(numbers: dict[str, Any]) -> None:
    with pytest.raises(vv.InputError, match="at least 1"):
        vv.explain_each(classifier(), iter(()), **numbers)


@pytest.mark.parametrize("sources", ["a.png", Path("a.png"), picture(0), None, 3], ids=lambda one: type(one).__name__)
def test_one_picture_is_not_several(sources: Any) -> None:
    with pytest.raises(vv.InputError, match="several pictures"):
        vv.explain_each(classifier(), sources)


@pytest.mark.parametrize(
    ("target", "foil"),
    [(["cat", "dog"], None), (torch.tensor([0, 1]), None), (None, [["cat"], ["dog"]]), (None, torch.tensor([0, 1]))],
)
def test_targets_and_foils_of_each_picture_are_refused(target: Any, foil: Any) -> None:
    with pytest.raises(vv.InputError, match="for all pictures alike"):
        vv.explain_each(classifier(), [picture(0), picture(1)], target, foil)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_what_came_before_an_error_is_explained_before_it_is_raised(batch_size: int, tmp_path: Path) -> None:
    def sources() -> Iterator[PIL.Image.Image]:
        yield from (picture(seed) for seed in range(3))
        raise KeyError("mine")

    (tmp_path / "a.png").write_text("no picture")
    with_bad = [picture(0), picture(1), picture(2), tmp_path / "a.png", picture(3)]
    for several, error in ((sources(), KeyError), (with_bad, PictureError)):
        explained = vv.explain_each(classifier(), several, batch_size=batch_size)
        assert len([next(explained) for _ in range(3)]) == 3
        with pytest.raises(error):
            next(explained)


def test_a_batch_is_no_picture() -> None:
    with pytest.raises(vv.InputError, match="one picture, not a batch of 2"):
        list(vv.explain_each(classifier(), [torch.rand(2, 3, 10, 10, dtype=torch.float64)]))


def test_a_batch_that_memory_does_not_hold_is_halved_and_so_are_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = classifier(), [picture(seed) for seed in range(11)]
    alone = [vv.explain(model, one) for one in pictures]
    run, sizes = model.module.forward, []

    def forward(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        result: Tensor = run(x)
        return result

    monkeypatch.setattr(model.module, "forward", forward)
    found = list(vv.explain_each(model, pictures, batch_size=8))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert [source for source, _ in found] == pictures
    for (_, why), one in zip(found, alone, strict=True):
        assert_same(why, one)


def test_one_picture_that_memory_does_not_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model = classifier()
    monkeypatch.setattr(model.module, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        list(vv.explain_each(model, [picture(0), picture(1)], batch_size=2))
