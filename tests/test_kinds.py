"""Kinds of prompts: a study's own prompts are where the study put them, and new ones follow the same cut."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from made_features import made
from tiltscope.kinds import prompt_kinds
from tiltscope.regions import SHARES, prompt_clusters, prompt_regions


def write_concepts(study: Path, features) -> None:  # type: ignore[no-untyped-def]
    clusters = prompt_clusters(features.prompt.freq, seed=0)
    regions = prompt_regions(features.prompt.freq, clusters, shares=SHARES)
    ids = np.array(features.pair_ids)
    body = {
        "concepts": [asdict(cluster) for cluster in clusters],
        "regions": [
            {"id": one.id, "made_from": one.made_from, "pair_ids": ids[one.inside].tolist()} for one in regions
        ],
    }
    (study / "concepts.json").write_text(json.dumps(body))


def test_a_prompt_of_the_study_is_of_the_kinds_it_was_put_in(tmp_path: Path) -> None:
    _, features = made()
    write_concepts(tmp_path, features)
    kinds = prompt_kinds(tmp_path, features)
    assert kinds
    for kind in kinds:
        assert kind.of(features.prompt.freq).tolist() == kind.inside.tolist()
        assert 0 < kind.inside.sum() < len(features.pair_ids)
    assert len({kind.cluster.id for kind in kinds}) == len(kinds)


def test_new_prompts_on_a_topic_are_of_its_kind(tmp_path: Path) -> None:
    _, features = made()
    write_concepts(tmp_path, features)
    pairs, other = made(seed=1)
    kind = max(prompt_kinds(tmp_path, features), key=lambda one: len(one.cluster.latents))
    topic = np.array([row.prompt[0].content.split()[1] for row in pairs.rows])
    shares = sorted(float(kind.of(other.prompt.freq)[topic == one].mean()) for one in set(topic))
    assert shares[-1] > 0.5
    assert shares[-2] < 0.1


def test_a_study_without_kinds_of_prompts_has_none(tmp_path: Path) -> None:
    _, features = made()
    (tmp_path / "concepts.json").write_text(json.dumps({"concepts": [], "regions": []}))
    assert prompt_kinds(tmp_path, features) == []
