"""EleutherAI's lm-evaluation-harness: its tasks as measures that `compare` and `gate` can speak of.

In:  a loaded model, names of tasks, a folder to keep results in.
Out: `Scores`: one value per document where the harness has one, so that differences are clustered by document; else
     its aggregate, which has no interval of its own.
Refuses: a task the harness does not know, and to run code of a model's repository. Whether a task's data may be
     downloaded is the harness's business, not ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltscope.artifact import file_fingerprint, fingerprint, read_object, write_json
from tiltscope.errors import UsageError
from tiltscope.evaluation import Scores
from tiltscope.written import nearest

if TYPE_CHECKING:
    from tiltscope.lm import Policy

__all__ = ["Harness", "check_harness", "harness_scores"]

Progress = Callable[[str, int, int], None]
Row = dict[str, Any]

_SHARE = re.compile(r"acc(_|$)|exact_match$|em$")  # by name, not by value, so that every model's is the same
_BATCH = 8


@dataclass(frozen=True)
class Harness:
    """What the harness is asked."""

    tasks: tuple[str, ...]
    """Names of tasks or groups of tasks; the documents of a group's tasks count together."""
    limit: int | None = None
    """The first so many documents of each task."""
    path: Path | None = None
    """A folder of tasks of your own (YAML); such files can name Python code, which is run."""

    @property
    def key(self) -> list[Any]:
        """What the results depend on, beside the model."""
        import lm_eval

        own = sorted(one for one in self.path.rglob("*") if one.suffix in (".py", ".yaml")) if self.path else []
        return [self.tasks, self.limit, str(lm_eval.__version__), [file_fingerprint(one) for one in own]]


def check_harness(harness: Harness) -> None:
    """Raise `UsageError` where the harness is not installed, or does not know a task."""
    import importlib.util

    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(
            "--lm-eval needs lm-evaluation-harness",
            found="it is not installed",
            hint="pip install 'tiltscope[lm-eval]'",
        )
    known = _manager(harness).all_tasks
    for name in harness.tasks:
        if name not in known:
            raise UsageError(f"lm-evaluation-harness has no task {name!r}", hint=nearest(name, known))


def _manager(harness: Harness) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=None if harness.path is None else str(harness.path))


def harness_scores(
    policy: Policy, harness: Harness, folder: Path, *, progress: Progress | None = None
) -> tuple[Scores, ...]:
    """Run every task that is not in FOLDER/lm_eval/ yet, as the harness has it by default (no chat template).

    A task's first metric is `lm_eval/TASK`, a further one `lm_eval/TASK/METRIC`. Accuracies and exact matches are
    shares, everything else a value.

    Raises:
        UsageError: the harness cannot run a task, say because its data cannot be downloaded.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    found: list[Scores] = []
    model = manager = None
    for done, name in enumerate(harness.tasks, 1):
        asked = fingerprint(policy.fingerprint, name, harness.key[1:])
        path = folder / "lm_eval" / f"{fingerprint(name)}.json"
        held = read_object(path, "asked", "metrics", verb="evaluate") if path.exists() else {}
        if held.get("asked") != asked:
            tokenizer = policy.renderer.tokenizer
            model = model or HFLM(policy.model, tokenizer=tokenizer, batch_size=_BATCH, trust_remote_code=False)
            manager = manager or _manager(harness)
            results = _run(model, name, manager, harness.limit)
            held = {"asked": asked, "task": name, "metrics": list(_metrics(name, results))}
            write_json(path, held)
        found += [_scores(name, row, lm_eval.__version__, first=row is held["metrics"][0]) for row in held["metrics"]]
        if progress:
            progress("lm_eval", done, len(harness.tasks))
    return tuple(found)


def _run(model: Any, name: str, manager: Any, limit: int | None) -> Mapping[str, Any]:
    import lm_eval

    try:
        results = lm_eval.simple_evaluate(model, tasks=[name], limit=limit, task_manager=manager, log_samples=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            "lm-evaluation-harness could not run this task",
            where=name,
            found=f"{type(error).__name__}: {str(error)[:200]}",
            hint="try it alone: lm_eval run --tasks " + name,
        ) from error
    return dict(results)


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks under a name; a task is its own."""
    under = groups.get(name) or []
    return [leaf for one in under for leaf in _leaves(one, groups)] if under else [name]


def _metrics(name: str, results: Mapping[str, Any]) -> Iterator[Row]:
    """Every metric and filter of a task, in the harness's order, over the documents of all its tasks."""
    leaves = [leaf for leaf in _leaves(name, results["group_subtasks"]) if leaf in results["samples"]]
    samples = [(leaf, one) for leaf in leaves for one in results["samples"][leaf]]
    for metric, kind in dict.fromkeys((metric, one["filter"]) for _, one in samples for metric in one["metrics"]):
        mine = [(leaf, one) for leaf, one in samples if one["filter"] == kind and metric in one]
        tasks = list(dict.fromkeys(leaf for leaf, _ in mine))
        better = results["higher_is_better"].get(tasks[0], {}).get(metric)
        row = {"metric": metric, "filter": kind, "tasks": tasks, "stderr": None}
        row["wanted"] = None if better is None else "more" if better else "less"
        if all(_is_number(one[metric]) for _, one in mine):
            ids = [f"{leaf}/{one['doc_id']}-{one['doc_hash'][:8]}" for leaf, one in mine]
            yield row | {"values": dict(zip(ids, (float(one[metric]) for _, one in mine), strict=True))}
            continue
        whole = results["results"].get(name, {})
        if _is_number(whole.get(f"{metric},{kind}")):
            error = whole.get(f"{metric}_stderr,{kind}")
            row["stderr"] = float(error) if _is_number(error) else None
            yield row | {"values": {name: float(whole[f"{metric},{kind}"])}}


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.number) and math.isfinite(value)


def _scores(name: str, row: Row, version: str, *, first: bool) -> Scores:
    kind = "" if row["filter"] == "none" else f", {row['filter']}"
    told = f"{row['metric']}{kind} of {', '.join(row['tasks'])}"
    error = "" if row["stderr"] is None else f" (aggregate, standard error {row['stderr']:.3g})"
    return Scores(
        behaviour=f"lm_eval/{name}" if first else f"lm_eval/{name}/{row['metric']}{kind.replace(' ', '')}",
        name=f"{name}: {row['metric']}{kind}{error}",
        unit="share" if _SHARE.match(row["metric"]) else "value",
        unit_name="" if _SHARE.match(row["metric"]) else row["metric"],
        wanted=row["wanted"],
        role="target",
        definition=f"{told} [lm-evaluation-harness {version}]",
        prompt_ids=tuple(row["values"]),
        values=np.array([[value] for value in row["values"].values()]),
    )
