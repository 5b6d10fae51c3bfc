"""How much memory is free, by what the system says; and which errors say that there was too little."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visavis import ModelError, memory
from visavis.memory import free_memory, is_out_of_memory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system of its own: 4 GiB are available, and the process is in no control group."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  8388608 kB\nMemAvailable:  4194304 kB\nHugePages_Total: 0\n")
    return tmp_path


def grouped(system: Path, line: str, path: str, **files: str) -> None:
    (system / "proc" / "self" / "cgroup").write_text(line + "\n")
    folder = system / "cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_what_the_system_has_available_is_free(system: Path) -> None:
    assert free_memory(CPU) == 4096 * MIB


def test_a_group_without_a_limit_changes_nothing(system: Path) -> None:
    grouped(system, "0::/", "", memory__max="max", memory__current=str(900 * MIB))
    assert free_memory(CPU) == 4096 * MIB


def test_a_group_has_what_is_left_of_its_limit_and_files_that_can_go(system: Path) -> None:
    stat = f"anon 5\ninactive_file {100 * MIB}\nactive_file 7"
    grouped(system, "0::/", "", memory__max=str(1000 * MIB), memory__current=str(700 * MIB), memory__stat=stat)
    assert free_memory(CPU) == 400 * MIB


def test_the_groups_around_a_group_count_too(system: Path) -> None:
    grouped(system, "0::/a/b", "a", memory__max=str(500 * MIB), memory__current=str(200 * MIB))
    grouped(system, "0::/a/b", "a/b", memory__max=str(900 * MIB), memory__current=str(100 * MIB))
    assert free_memory(CPU) == 300 * MIB


def test_groups_of_the_first_version_are_read(system: Path) -> None:
    grouped(
        system,
        "7:memory:/docker\n6:cpu:/docker",
        "memory/docker",
        memory__limit_in_bytes=str(512 * MIB),
        memory__usage_in_bytes=str(412 * MIB),
        memory__stat=f"total_inactive_file {20 * MIB}",
    )
    assert free_memory(CPU) == 120 * MIB


def test_a_group_over_its_limit_has_nothing_left(system: Path) -> None:
    grouped(system, "0::/", "", memory__max="100", memory__current="300")
    assert free_memory(CPU) == 0


def test_where_nothing_can_be_told_there_is_no_number(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "proc" / "meminfo").unlink()
    monkeypatch.setattr(memory.os, "sysconf_names", {})
    assert free_memory(CPU) is None
    assert free_memory(torch.device("mps")) is None


def test_this_machine_says_how_much_is_free() -> None:
    free = free_memory(CPU)
    assert free is not None
    assert free > 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you ..."
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
    ],
    ids=lambda error: str(error)[:20] or type(error).__name__,
)
def test_errors_of_too_little_memory_are_known_also_beneath_others(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(ModelError) as caught:
        raise ModelError("the model failed") from error
    assert is_out_of_memory(caught.value)


def test_an_error_that_is_its_own_cause_is_looked_at_once() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert not is_out_of_memory(error)


def test_a_huge_tensor_raises_such_an_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**45)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("a")], ids=str)
def test_other_errors_are_others(error: Exception) -> None:
    assert not is_out_of_memory(error)
