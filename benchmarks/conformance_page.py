"""The page that the conformance suite writes into the documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from conformance_models import Subject
from conformance_peers import PEERS, verdict

Results = Mapping[str, Mapping[str, Any]]

_TITLES = {
    ("torchvision", "classification"): "torchvision: all classifiers",
    ("torchvision", "video"): "torchvision: videos",
    ("torchvision", "segmentation"): "torchvision: segmentation",
    ("timm", "classification"): "timm: one model of each family, and some of their kin",
}


_HEAD = """\
# Conformance: which models are explained

{whole} of {all} models conform. On {equal} of them, all that are linear in pieces, LRP-0 equals input × gradient.
A model conforms if

- its output under the engine is its own, bit for bit;
- the maps of LRP and CLRP, by the default rules, are finite and not all zero;
- the share of the relevance that reached the input and what the ledger says was absorbed make 1, within 1 %, and no
  more reached it than there was;
- the signed contrasts of two classes differ;
- where the network is linear in pieces, LRP-0 equals input × gradient to 1e-6 in float64, once biases and the means of
  batch norms are zero;
- parameters, buffers, hooks, modes, `.grad` and random state are left as they were.

Weights are random, so the shares tell of architectures, not of trained networks. What captum and zennit
make of the same models stands below.

| column | meaning |
| --- | --- |
| conserved | share of the relevance that LRP, by the rules deep-taylor, brings to the input; the rest was absorbed |
| LRP-0 | `=`: equals input × gradient; else the first function by which the network is not linear in pieces |
| cost in F | of CLRP's map, in forward passes of the same model, on one thread of a CPU |
| remarks | where much is absorbed; "R < R_dual": the contrast is negative at every pixel (random weights) |

Inputs are small here, so that what each call costs by itself counts; for 224 pixels see `benchmarks/speed.py`.

Made with {versions} by `{command}`.
"""


def conformance_page(subjects: Sequence[Subject], by_kind: Mapping[str, Results], command: str) -> str:
    """Return the page that says of each model how it conforms, and what the peers make of it."""
    results = by_kind["visavis"]
    explained = [s for s in subjects if s.group != "quantized"]
    found = [results[s.title] for s in explained if s.title in results]
    head = _HEAD.format(
        whole=sum(not one["faults"] for one in found),
        all=len(explained),
        equal=sum(one["zero"] == "equal" for one in found),
        versions=versions("torch", "torchvision", "timm"),
        command=command,
    )
    tables = [*sections(explained, results), *refused(subjects, results)]
    return "\n".join([head, *tables, *peers_section(subjects, by_kind)])


def versions(*packages: str) -> str:
    """Return the versions that matter to what is found."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, and an empty one."""
    return [*(f"| {' | '.join(cells)} |" for cells in rows), ""]


def sections(subjects: Sequence[Subject], results: Results) -> list[str]:
    """Return a table for each library and group."""
    lines = []
    for (source, group), title in _TITLES.items():
        rows = [row(s, results.get(s.title)) for s in subjects if (s.source, s.group) == (source, group)]
        head = [["model", "family", "input", "conserved", "LRP-0", "cost in F", "remarks"], ["---"] * 2 + ["---:"] * 2]
        head[1] += ["---", "---:", "---"]
        lines += [f"## {title}", "", *table([*head, *rows])]
    return lines


def row(subject: Subject, found: Mapping[str, Any] | None) -> list[str]:
    """Return the row of one model."""
    size = "×".join(map(str, subject.shape[2:]))
    names = [f"`{subject.name}`", subject.family, size]
    if found is None:
        return [*names, "", "", "", "not measured"]
    if found["refused"]:
        return [*names, "", "", "", f"refused: {found['refused']}"]
    zero = {"equal": "=", "differs": "≠"}.get(found["zero"], f"`{found['zero']}`")
    return [*names, f"{found['conserved']:.1%}", zero, f"{found['cost']:.1f}", remarks(found)]


def remarks(found: Mapping[str, Any]) -> str:
    """Return what is wrong with a model; else where much is absorbed, and whether the contrast speaks for the class."""
    if found["faults"]:
        return "; ".join(found["faults"])
    said = []
    if found["absorbed"] > 0.1 and found["absorber"]:
        said.append(f"most is absorbed in `{found['absorber']}`")
    if not found["positive"]:
        said.append("R < R_dual at every pixel")
    return "; ".join(said)


def refused(subjects: Sequence[Subject], results: Results) -> list[str]:
    """Return the section of the models that cannot be explained, each with the sentence that says why."""
    quantised = [s for s in subjects if s.group == "quantized"]
    rows = [[f"`{s.name}`", results[s.title]["refused"] if s.title in results else "not measured"] for s in quantised]
    head = [["model", "error"], ["---", "---"]]
    return ["## Refused, with the reason", "", "Quantised weights have no relevance rule.", "", *table([*head, *rows])]


# -- the peers -------------------------------------------------------------------------------------------------------


_PEERS_HEAD = """\
## The same models by captum and zennit

Biases and the means of batch norms are set to zero, ε tends to 0, numbers are float64. Then LRP is input × gradient
wherever a network is linear in pieces, and its map adds up to the score. *Right* is a map that does both (cosine and
sum within 1 %). Where a network bends otherwise there is no such oracle, and only the sum is asked for.

captum has its default rules; zennit the canonizer of the family (`ResNetCanonizer`, `VGGCanonizer`, else
`SequentialMergeBatchNorm`); both get activations that do not write in place. The column of this library says more:
there *right* is equal to 1e-6, and a sum counts what the ledger says was absorbed. The last column is what users meet:
the share of the score that zennit's `EpsilonPlus` puts on the input, with biases.

Made with {versions}.
"""


def peers_section(subjects: Sequence[Subject], by_kind: Mapping[str, Results]) -> list[str]:
    """Return the section that sets captum and zennit beside this library; nothing if they have not been tried."""
    if not all(by_kind[peer] for peer in PEERS):
        return []
    tried = [s for s in subjects if s.group in ("classification", "video")]
    verdicts = {
        "Visavis": [own_verdict(by_kind["visavis"].get(s.title)) for s in tried],
        **{peer: [peer_verdict(by_kind[peer].get(s.title)) for s in tried] for peer in PEERS},
    }
    counts = [["library", "right", "conserves; no oracle", "wrong", "raises or fails"], ["---", *["---:"] * 4]]
    for library, given in verdicts.items():
        starts = ("right", "conserves", "wrong", ("raises", "fails", "refused"))
        counts.append([library, *(str(sum(one.startswith(start) for one in given)) for start in starts)])
    shares = [usual(by_kind["zennit"].get(s.title)) for s in tried]
    columns = [[f"`{s.title}`" for s in tried], *verdicts.values(), shares]
    rows = [["model", *verdicts, "EpsilonPlus"], [*["---"] * (1 + len(verdicts)), "---:"], *zip(*columns, strict=True)]
    head = _PEERS_HEAD.format(versions=versions(*PEERS))
    return [head, *table(counts), *table(rows), "### What they raise", "", *raised(tried, by_kind)]


def usual(found: Mapping[str, Any] | None) -> str:
    """Return the share of the score that zennit's EpsilonPlus puts on the input of the network as it is."""
    share = None if found is None else found.get("usual")
    return "" if share is None else f"{share:.3g}"


def own_verdict(found: Mapping[str, Any] | None) -> str:
    """Return the verdict on this library's own result, in the peers' words."""
    if found is None:
        return "not measured"
    if found["refused"]:
        return "refused"
    if found["faults"]:
        return f"wrong: {'; '.join(found['faults'])}"
    return "right" if found["zero"] == "equal" else "conserves; no oracle"


def peer_verdict(found: Mapping[str, Any] | None) -> str:
    """Return the verdict on a peer's result."""
    return "not measured" if found is None else verdict(dict(found))


def raised(subjects: Sequence[Subject], results: Mapping[str, Results]) -> list[str]:
    """Return, of each peer, what it raises and on how many models."""
    lines = []
    for peer in PEERS:
        errors = [in_short(results[peer][s.title]["raises"]) for s in subjects if s.title in results[peer]]
        counts = sorted(((errors.count(error), error) for error in set(errors) if error), reverse=True)
        lines += [f"- {peer}, {count} model{'s' * (count > 1)}: {error}" for count, error in counts]
    return [*lines, ""]


def in_short(error: str) -> str:
    """Return an error without what differs from model to model."""
    unknown = re.search(r"Module of type <class '([^']+)'> has no rule", error)
    if unknown:
        return f"TypeError: no rule for `{unknown[1]}`"
    return re.sub(r"\d+", "N", error)
