"""One study, one folder: each stage reads the last product and writes the next.

In:  a dataset and settings (the first stages), or a study folder (the later ones).
Out: the products listed in docs/decisions/0001-the-street.md, each with a record of the inputs it was made from.
Refuses: to mix datasets in one folder, and to go on from a product made from other inputs. A stage whose product is
     whole and fresh is not done again, so an interrupted audit goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltscope import __version__
from tiltscope.artifact import check_fresh, fingerprint, quoted, read_manifest, read_object, write_json
from tiltscope.errors import ProductError, StaleProductError, UsageError

if TYPE_CHECKING:
    from tiltscope.cells import ContrastSettings
    from tiltscope.contrast import Contrast
    from tiltscope.features import Features
    from tiltscope.pairs import LoadSettings, Pair, Pairs
    from tiltscope.sae import ReadSettings

__all__ = [
    "Opened",
    "check_current",
    "data_file",
    "load_data",
    "open_study",
    "run_check",
    "run_contrast",
    "run_evidence",
    "run_name",
    "run_plan",
    "run_read",
    "run_read_ahead",
    "run_report",
    "trained_on",
]

Progress = Callable[[str, int, int], None]
_EVIDENCE_PAIRS = 4


@dataclass(frozen=True)
class Opened:
    """A study with its pairs and features, checked to belong together."""

    folder: Path
    pairs: Pairs
    features: Features

    @property
    def rows(self) -> list[Pair]:
        """The pairs that were read, in the order of the features."""
        by_id = {pair.id: pair for pair in self.pairs.rows}
        return [by_id[pair_id] for pair_id in self.features.pair_ids]


def load_data(source: str, settings: LoadSettings) -> Pairs:
    """Read the pairs; the source `demo` is the bundled dataset."""
    from tiltscope.pairs import load_pairs
    from tiltscope.planting import bundled_demo

    if source == "demo":
        return replace(load_pairs(bundled_demo(), settings), source="demo")
    return load_pairs(source, settings)


def data_file(source: str) -> Path:
    """Return the file behind a source; `demo` is the bundled dataset's."""
    from tiltscope.planting import bundled_demo

    return Path(bundled_demo()) if source == "demo" else Path(source)


def run_check(pairs: Pairs, study: Path | None, *, max_length: int, seed: int) -> dict[str, Any]:
    """Describe the dataset before any model loads; writes check.json and the pairs where a study is given."""
    from tiltscope.checklist import check_pairs

    product = check_pairs(pairs, max_tokens=max_length, seed=seed)
    if study is not None:
        _claim(study, pairs)
        write_json(study / "check.json", product)
    return product


def _claim(study: Path, pairs: Pairs) -> None:
    """Write the pairs into the study, unless it already holds another dataset."""
    from tiltscope.pairs import save_pairs

    if (study / "pairs.manifest.json").exists():
        held, whole = _held_pairs(study)
        if held != pairs.fingerprint:
            raise StaleProductError(
                "this study already holds another dataset (or another sample of it)",
                where=str(study),
                found=f"pairs {held} in the study, {pairs.fingerprint} given",
                hint="choose another --out, or delete the folder",
            )
        if whole:
            return
    study.mkdir(parents=True, exist_ok=True)
    save_pairs(pairs, study)


def _held_pairs(study: Path) -> tuple[str, bool]:
    """Return (fingerprint of the pairs this study holds, whether their files are whole)."""
    from tiltscope.pairs import read_pairs

    try:
        return read_pairs(study).fingerprint, True
    except ProductError as error:
        path = study / "pairs.manifest.json"
        inputs = _record(path).get("inputs")
        if not isinstance(inputs, dict) or not isinstance(inputs.get("pairs"), str):
            raise ProductError(
                "this study no longer says which dataset it holds",
                where=str(path),
                found=error.what,
                hint="choose another --out, or delete the folder",
            ) from error
        return inputs["pairs"], False


def run_read(pairs: Pairs, taken: LoadSettings, settings: ReadSettings, study: Path, *, progress: Progress) -> Features:
    """Read the pairs through a model and its autoencoder; goes on where an interrupted reading stopped.

    `taken` says how the pairs were loaded: it is recorded in study.json with everything else that repeats the study.
    """
    from tiltscope.sae import read_with_sae

    _claim(study, pairs)
    asked = {"tiltscope": __version__, **asdict(settings), "pairs": pairs.fingerprint}
    path = study / "study.json"
    record = _record(path)
    if all(record.get(key) == value for key, value in asked.items()):
        held = _whole_features(study, pairs)
        if held and held.fingerprint == record.get("features"):
            return held
    features = read_with_sae(pairs, settings, study, progress=progress)
    recorded = {**asked, "source": pairs.source, **asdict(taken), "seed": settings.seed}
    recorded["map"] = dict(recorded.pop("columns"))
    write_json(path, {**recorded, "features": features.fingerprint})
    return features


def run_read_ahead(pairs: Pairs, settings: ReadSettings, study: Path, *, rank: int, n_processes: int) -> None:
    """Help a `run_read` of the same pairs and settings in another process; it writes what must be written once."""
    from tiltscope.sae import read_ahead

    while not (study / "pairs.manifest.json").exists() or _held_pairs(study)[0] != pairs.fingerprint:
        time.sleep(0.2)
    read_ahead(pairs, settings, study, rank=rank, n_processes=n_processes)


def _record(path: Path) -> dict[str, Any]:
    """Return what a stage recorded; {} where that is missing or damaged, so that the stage is done again."""
    try:
        return read_object(path, verb="audit")
    except ProductError:
        return {}


def _whole_features(study: Path, pairs: Pairs) -> Features | None:
    """Return the features in the study, unless any file of them, or the facts of their autoencoder, must be remade."""
    from tiltscope.features import load_features

    try:
        features = load_features(study / "features", pairs=pairs)
        features.check_files()
        read_object(study / "scope" / "scope.json", "sae", verb="read")
    except ProductError:
        return None
    return features


def open_study(study: Path) -> Opened:
    """Load pairs and features of a study; features made from other pairs are refused."""
    from tiltscope.features import load_features
    from tiltscope.pairs import read_pairs

    if not study.is_dir():
        raise UsageError(
            "there is no such study", where=str(study), hint=f"make one: tiltscope audit DATA --out {quoted(study)}"
        )
    pairs = read_pairs(study)
    features = load_features(study / "features")
    if features.pairs_fingerprint != pairs.fingerprint:
        raise StaleProductError(
            "these features were read from other pairs",
            where=str(study / "features"),
            found=f"read from {features.pairs_fingerprint}, the study holds {pairs.fingerprint}",
            hint=f"rerun: tiltscope read DATA --out {quoted(study)}",
        )
    return Opened(study, pairs, features)


def trained_on(study: Path) -> frozenset[str]:
    """Return the names of all prompts of a study and of its groups: what no held-out prompt may share."""
    from tiltscope.pairs import prompt_name

    return frozenset(name for row in open_study(study).pairs.rows for name in (row.group, prompt_name(row.prompt)))


def run_contrast(opened: Opened, settings: ContrastSettings, *, progress: Progress) -> dict[str, Any]:
    """Write hypotheses.json and its companions, unless they are fresh; returns the record (contrast.json)."""
    from tiltscope.contrast import contrast, write_contrast

    inputs = {"pairs": opened.pairs.fingerprint, "features": opened.features.fingerprint, "tiltscope": __version__}
    made_from = fingerprint(inputs, asdict(settings))
    path = opened.folder / "contrast.json"
    record = _record(path)
    if record.get("fingerprint") == made_from and _is_contrasted(opened.folder):
        return record
    result = contrast(opened.pairs, opened.features, settings, progress=progress)
    path.unlink(missing_ok=True)  # the record is written last: with it the product is whole
    _retire(opened.folder, made_from)
    record = {**write_contrast(result, opened.folder), "inputs": inputs, "fingerprint": made_from}
    write_json(opened.folder / "hierarchy.json", {"edges": _hierarchy(result, opened)})
    write_json(path, record)
    return record


def _hierarchy(result: Contrast, opened: Opened) -> list[dict[str, Any]]:
    """Which concepts of confirmed findings are part of which."""
    from tiltscope.hierarchy import hierarchy

    wanted = {one.concept.id: one.concept for one in result.hypotheses if one.confirmed and one.concept.id[0] in "LC"}
    groups = [row.group for row in opened.rows]
    return [asdict(edge) for edge in hierarchy(opened.features, groups, list(wanted.values()))]


def _retire(study: Path, made_from: str) -> None:
    """Take away what was said of hypotheses that are no more; names of the very same contrast stay."""
    (study / "evidence.json").unlink(missing_ok=True)
    meta = _record(study / "names.json").get("_meta") or {}
    if (meta.get("asked") or {}).get("contrast") != made_from:
        (study / "names.json").unlink(missing_ok=True)


def check_current(study: Path) -> None:
    """Raise `StaleProductError` where the hypotheses were made from other features than those in the study.

    A study may be passed on without its features: then there is nothing to compare.
    """
    manifest = study / "features" / "manifest.json"
    if manifest.exists():
        verb = f"contrast {quoted(study)}"
        made_from = read_object(study / "contrast.json", "inputs", verb=verb)
        at_hand = read_manifest(manifest, verb="read")["fingerprint"]
        check_fresh(made_from, {"features": at_hand}, where=study / "hypotheses.json", verb=verb)


def _is_contrasted(study: Path) -> bool:
    """Whether hypotheses.json, hypotheses.parquet, concepts.json and hierarchy.json are all there and whole."""
    from tiltscope.hypotheses import read_disparities, read_hypotheses

    try:
        read_hypotheses(study)
        read_disparities(study, "")
        read_object(study / "concepts.json", "concepts", "regions", verb="contrast")
        read_object(study / "hierarchy.json", "edges", verb="contrast")
    except ProductError:
        return False
    return True


def run_name(opened: Opened, *, namer: Any = None, seed: int = 0, progress: Progress) -> dict[str, Any]:
    """Name every concept and prompt kind that a hypothesis speaks of; writes names.json, fills hypotheses.json."""
    from tiltscope.naming import names_product, write_names

    contrast = read_object(
        opened.folder / "contrast.json", "fingerprint", "settings", verb=f"contrast {quoted(opened.folder)}"
    )
    check_current(opened.folder)
    split = int(contrast["settings"]["seed"])
    asked = {"contrast": contrast["fingerprint"], "namer": getattr(namer, "name", "evidence"), "seed": seed}
    path = opened.folder / "names.json"
    held = _record(path)
    if held.get("_meta", {}).get("asked") == asked:
        _fill_names(opened, held, split)
        return held
    product = names_product(opened, _concepts_in_use(opened.folder), namer=namer, seed=seed, progress=progress)
    product["_meta"] = {**product.get("_meta", {}), "asked": asked}
    write_names(opened.folder, product)
    _fill_names(opened, product, split)
    return product


def _concepts_in_use(study: Path) -> dict[str, list[dict[str, Any]]]:
    """{"response": concepts to name, "prompt": prompt clusters to name}: those of confirmed hypotheses, and clusters.

    A latent whose hypotheses were not confirmed keeps its number: thousands of names would cost more than reading.
    """
    from tiltscope.hypotheses import read_hypotheses

    hypotheses = [h for h in read_hypotheses(study) if h["confirmed"] or h["concept"]["id"][0] != "L"]
    product = read_object(study / "concepts.json", "concepts", "regions", verb=f"contrast {quoted(study)}")
    known = {concept["id"]: concept for concept in product["concepts"]}
    made_from = {region["id"]: region["made_from"] for region in product["regions"]}
    wanted = dict.fromkeys(h["concept"]["id"] for h in hypotheses if not h["concept"].get("rule"))
    places = dict.fromkeys(made_from[h["region"]["id"]] for h in hypotheses if h["region"])
    wanted |= dict.fromkeys(place for place in places if not place.startswith("P"))
    return {
        "response": [known[name] for name in wanted],
        "prompt": [known[name] for name in places if name.startswith("P")],
    }


def _fill_names(opened: Opened, names: Mapping[str, Any], seed: int) -> None:
    """Put names and families into hypotheses.json; the statistics stay as they are."""
    from tiltscope.hypotheses import read_all_disparities, read_hypotheses
    from tiltscope.naming import Data, tell

    study = opened.folder
    regions = read_object(study / "concepts.json", "concepts", "regions", verb=f"contrast {quoted(study)}")["regions"]
    data = Data(opened.rows, opened.features, seed)
    told = tell(read_hypotheses(study), names, regions, read_all_disparities(study), data)
    write_json(study / "hypotheses.json", told)


def run_evidence(opened: Opened, *, seed: int = 0, most: int = 60) -> dict[str, Any]:
    """Write evidence.json: example pairs with marked tokens for the strongest hypothesis of each family."""
    from tiltscope.hypotheses import read_disparities, read_hypotheses
    from tiltscope.trace import trace

    hypotheses = read_hypotheses(opened.folder)
    heads = [h for h in hypotheses if h["confirmed"] and h["family"] == h["id"]][:most]
    evidence = {
        head["id"]: trace(
            head,
            opened.pairs,
            opened.features,
            disparities=read_disparities(opened.folder, head["id"]),
            n=_EVIDENCE_PAIRS,
            seed=seed,
        )
        for head in heads
    }
    write_json(opened.folder / "evidence.json", evidence)
    return evidence


def run_report(study: Path, *, formats: Sequence[str] = ("html", "md", "json")) -> list[Path]:
    """Write the report from the products that are there."""
    from tiltscope.report import write_report

    check_current(study)
    return write_report(study, formats=formats)


def run_plan(study: Path, *, overwrite: bool = False) -> Path:
    """Draft plan.yaml; a person's decisions are kept."""
    from tiltscope.plan import write_draft

    check_current(study)
    return write_draft(study, overwrite=overwrite)
