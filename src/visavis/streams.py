"""Any number of pictures, explained one batch after the other: while one is explained, the next are decoded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.contrast import is_foil_of_each
from visavis.errors import InputError, PictureError, SameClassError, VisavisError
from visavis.explanation import Explanation
from visavis.memory import attempted
from visavis.methods.chunks import is_of_each
from visavis.request import explain

#: Told of a picture that is passed over, and why; None: the error is raised.
OnError = Callable[[Any, VisavisError], None] | None
#: A source, and the tensor (C, H, W) that it is to the model.
_Prepared = tuple[Any, Tensor]
#: What is wrong with a picture alone, and does not cost the others their explanations.
OF_ONE = (PictureError, SameClassError)
# Pictures explained at a time on a GPU; a CPU is as quick with one.
_ON_GPU = 16


def explain_each(
    model: nn.Module | Classifier,
    sources: Any,
    target: Any = None,
    foil: Any = None,
    *,
    batch_size: Any = None,
    workers: Any = 2,
    on_error: OnError = None,
    **options: Any,
) -> Iterator[tuple[Any, Explanation]]:
    """Explain any number of pictures, and yield each with its explanation, in their order.

    Pictures are decoded in threads while the ones before are explained, and no more are in memory than a few batches.
    A batch that does not fit into memory is explained in two halves, and those that follow are as small.

    Args:
        model: as for `explain`.
        sources: paths, PIL pictures, arrays or tensors (C, H, W); taken as they are needed, and so never at once.
            Two batches and one for each worker are asked for ahead.
        target, foil: as for `explain`, for all pictures alike.
        batch_size: how many pictures are explained at a time, where their sizes after preprocessing are the same; None:
            16 on a GPU, else 1. Of pictures that are explained together there is no ledger.
        workers: threads that decode.
        on_error: called with a picture and its error where that cannot be read, or where its own class is the foil; it
            is then passed over. None: the error is raised.
        options: what else `explain` takes.

    Raises:
        InputError: batch_size or workers is below 1; and all that `explain` raises.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    size = (_ON_GPU if classifier.device.type == "cuda" else 1) if batch_size is None else batch_size
    if any(not isinstance(number, int) or number < 1 for number in (size, workers)):
        raise InputError(f"batch_size and workers are whole numbers of at least 1, not {size!r} and {workers!r}")
    if isinstance(sources, str | os.PathLike | PIL.Image.Image) or not isinstance(sources, Iterable):
        raise InputError(f"sources are several pictures, not {sources!r}; for one there is explain()")
    if is_of_each(target) or is_foil_of_each(foil):
        raise InputError(
            "target and foil are for all pictures alike, not one a picture; explain those of one target by a call of "
            "their own"
        )
    stream = _Stream(classifier, target, foil, options, size, on_error)
    return stream.explanations(stream.decoded(sources, 2 * size + workers, workers))


class _Stream:
    """One call of `explain_each`, while it is worked on.

    Attributes:
        size: how many pictures are explained at a time.
    """

    def __init__(
        self, classifier: Classifier, target: Any, foil: Any, options: dict[str, Any], size: int, on_error: OnError
    ) -> None:
        self._classifier = classifier
        self._asked = (target, foil)
        self._options = options
        self._on_error = on_error
        self.size = size

    def decoded(self, sources: Iterable[Any], ahead: int, workers: int) -> Iterator[_Prepared]:
        """Yield each source with its tensor (C, H, W) on the CPU, in their order, at most so many decoded ahead."""
        pool = ThreadPoolExecutor(workers, thread_name_prefix="visavis-decode")
        running: deque[tuple[Any, Future[Tensor]]] = deque()
        left = iter(sources)
        failed: Exception | None = None
        try:
            while True:
                while failed is None and len(running) < ahead:
                    try:
                        source = next(left)
                    except StopIteration:
                        break
                    except Exception as error:  # noqa: BLE001 (raised when those before it are explained)
                        failed = error
                        break
                    running.append((source, pool.submit(_tensor, self._classifier, source)))
                if not running:
                    if failed is not None:
                        raise failed
                    return
                source, future = running.popleft()
                try:
                    tensor = future.result()
                except PictureError as error:
                    self._passed_over(source, error)
                    continue
                yield source, tensor
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def explanations(self, pictures: Iterator[_Prepared]) -> Iterator[tuple[Any, Explanation]]:
        """Yield each picture with its explanation, those of one shape and in a row at a time."""
        waiting: list[_Prepared] = []
        while True:
            try:
                source, tensor = next(pictures)
            except StopIteration:
                break
            except Exception:
                yield from self._all_of(waiting)
                raise
            if waiting and waiting[0][1].shape != tensor.shape:
                yield from self._all_of(waiting)
            waiting.append((source, tensor))
            if len(waiting) >= self.size:
                yield from self._all_of(waiting)
        yield from self._all_of(waiting)

    def _all_of(self, waiting: list[_Prepared]) -> Iterator[tuple[Any, Explanation]]:
        """Explain what waits, and empty the list."""
        while waiting:
            part = waiting[: self.size]
            why = self._together(part) if len(part) > 1 else None
            if why is None and self.size < len(part):
                continue
            del waiting[: len(part)]
            if why is None:
                yield from self._one_by_one(part)
            else:
                yield from ((source, one) for (source, _), one in zip(part, why, strict=True))

    def _together(self, part: list[_Prepared]) -> Explanation | None:
        """Explain a batch; None where one of its pictures has an error of its own, or memory does not suffice."""
        tensors = [tensor for _, tensor in part]
        try:
            why = attempted(lambda: self._explained(tensors), self._classifier.device, smaller=True)
        except OF_ONE:
            return None
        if why is None:
            self.size = (len(part) + 1) // 2
        return why

    def _one_by_one(self, part: list[_Prepared]) -> Iterator[tuple[Any, Explanation]]:
        for source, tensor in part:
            try:
                why = self._explained([tensor])
            except OF_ONE as error:
                self._passed_over(source, error)
                continue
            yield source, why

    def _explained(self, tensors: list[Tensor]) -> Explanation:
        batch = torch.stack(tensors)
        if self._classifier.device.type == "cuda":  # which is at work, and is not waited for
            batch = batch.pin_memory().to(self._classifier.device, non_blocking=True)
        return explain(self._classifier, batch, *self._asked, **self._options)

    def _passed_over(self, source: Any, error: VisavisError) -> None:
        if self._on_error is None:
            raise error
        self._on_error(source, error)


def _tensor(classifier: Classifier, source: Any) -> Tensor:
    prepared = classifier.prepare(source, device="cpu")
    if len(prepared) != 1:
        raise InputError(f"each source is one picture, not a batch of {len(prepared)}; pass them one by one")
    return prepared[0]


__all__ = ["OF_ONE", "explain_each"]
