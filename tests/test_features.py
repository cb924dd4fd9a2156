"""Features: what a scope says, laid on disk and summed up, against loops that anybody can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tiltscope.errors import ProductError, StaleProductError, UsageError
from tiltscope.features import (
    SIDES,
    Conversation,
    ConversationCodes,
    Features,
    SpanCodes,
    load_features,
    read_features,
)
from tiltscope.pairs import Pair, Pairs, Turn


class LetterScope:
    """Each character is a token; latent f fires on the f-th letter, as strongly as the place of the token."""

    name = "letters"
    n_latents = 26

    def __init__(self, fingerprint: str = "letters-1", dies_at: int | None = None, loud: float = 1.0) -> None:
        self.fingerprint, self.dies_at, self.loud = fingerprint, dies_at, loud
        self.calls = 0

    def encode(self, conversations: Sequence[Conversation]) -> list[ConversationCodes]:
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return [self._one(conversation) for conversation in conversations]

    def token_text(self, token_id: int) -> str:
        return chr(token_id)

    def _one(self, conversation: Conversation) -> ConversationCodes:
        prompt = "\n\n".join(turn.content for turn in conversation.prompt)
        if "too long" in prompt:
            empty = self._span("")
            return ConversationCodes(empty, empty, 0, 0, refused="prompt fills max_length", found="99 tokens")
        return ConversationCodes(self._span(prompt), self._span(conversation.response[:40]), 2, 1)

    def _span(self, text: str) -> SpanCodes:
        codes = np.zeros((len(text), 26), np.float32)
        for place, character in enumerate(text):
            if "a" <= character <= "z":
                codes[place, ord(character) - 97] = self.loud * (place + 1) / 8
        places = np.arange(len(text), dtype=np.int32)
        ids = np.array([ord(character) for character in text], np.int32)
        return SpanCodes(ids, places, places + 1, sparse.csr_array(codes))


def made(n_pairs: int, fingerprint: str = "pairs-1") -> Pairs:
    generator = np.random.default_rng(0)
    words = ["abc", "hello", "zoo", "bold", "tilt", "x y"]
    rows = tuple(
        Pair(
            f"id{number}",
            (Turn("user", str(generator.choice(words))),),
            " ".join(generator.choice(words, 5)),
            " ".join(generator.choice(words, 3)) if number % 5 else "",
            f"g{number}",
            number + 1,
        )
        for number in range(n_pairs)
    )
    return Pairs(rows, (), "explicit", "made", fingerprint)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_against_loops(features: Features, pairs: Pairs, scope: LetterScope) -> None:
    rows = {row.id: row for row in pairs.rows}
    for place, pair_id in enumerate(features.pair_ids):
        row = rows[pair_id]
        [chosen, rejected] = scope.encode(
            [Conversation(row.prompt, row.chosen), Conversation(row.prompt, row.rejected)]
        )
        spans = {"prompt": chosen.prompt, "chosen": chosen.response, "rejected": rejected.response}
        for side, span in spans.items():
            summed = getattr(features, side)
            dense = span.codes.toarray()
            n_tokens = len(span.token_ids)
            expected = (dense > 0).mean(axis=0) if n_tokens else np.zeros(26)
            np.testing.assert_allclose(summed.freq[[place]].toarray()[0], expected, rtol=1e-6)
            np.testing.assert_allclose(summed.max[[place]].toarray()[0], dense.max(axis=0, initial=0.0), rtol=1e-3)
            assert summed.n_tokens[place] == n_tokens
            read = features.span(pair_id, side)
            np.testing.assert_array_equal(read.token_ids, span.token_ids)
            np.testing.assert_array_equal(read.starts, span.starts)
            np.testing.assert_array_equal(read.ends, span.ends)
            np.testing.assert_allclose(read.codes.toarray(), dense, rtol=1e-3)


def test_features_equal_what_a_loop_over_tokens_finds(tmp_path: Path) -> None:
    pairs, scope = made(23), LetterScope()
    features = read_features(pairs, scope, tmp_path, pairs_per_shard=5)
    assert features.pair_ids == tuple(row.id for row in pairs.rows)
    check_against_loops(features, pairs, scope)
    check_against_loops(load_features(tmp_path, pairs=pairs, scope_fingerprint="letters-1"), pairs, scope)


def test_frequency_and_maximum_share_their_sparsity(tmp_path: Path) -> None:
    features = read_features(made(9), LetterScope(), tmp_path, pairs_per_shard=4)
    for side in SIDES:
        span = getattr(features, side)
        np.testing.assert_array_equal(span.freq.indices, span.max.indices)
        assert span.freq.data.min() > 0
        assert span.freq.data.max() <= 1


def test_token_tables_walk_through_all_pairs_in_order(tmp_path: Path) -> None:
    pairs = made(11)
    features = read_features(pairs, LetterScope(), tmp_path, pairs_per_shard=4)
    for side in SIDES:
        texts: dict[str, str] = dict.fromkeys(features.pair_ids, "")
        for table in features.tables(side):
            assert table.codes.shape == (len(table.pair), 26)
            for pair, token in zip(table.pair, table.token_ids, strict=True):
                texts[features.pair_ids[pair]] += features.token_text(int(token))
        assert texts == {row.id: row.prompt_text if side == "prompt" else getattr(row, side) for row in pairs.rows}


def test_a_killed_reading_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    pairs = made(20)
    read_features(pairs, LetterScope(), tmp_path / "whole", pairs_per_shard=4)
    with pytest.raises(KeyboardInterrupt):
        read_features(pairs, LetterScope(dies_at=3), tmp_path / "killed", pairs_per_shard=4)
    with pytest.raises(ProductError, match="not there yet"):
        load_features(tmp_path / "killed")
    again = LetterScope()
    read_features(pairs, again, tmp_path / "killed", pairs_per_shard=4)
    assert again.calls == 2, "a kill loses at most one shard"
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_a_reading_killed_over_another_leaves_no_features_that_are_half_of_each(tmp_path: Path) -> None:
    read_features(made(20), LetterScope(), tmp_path, pairs_per_shard=4)
    with pytest.raises(KeyboardInterrupt):
        read_features(made(20), LetterScope("letters-2", dies_at=3), tmp_path, pairs_per_shard=4)
    with pytest.raises(ProductError, match="not there yet"):
        load_features(tmp_path)


def test_missing_shards_and_token_texts_are_noticed(tmp_path: Path) -> None:
    features = read_features(made(8), LetterScope(), tmp_path, pairs_per_shard=4)
    features.check_files()
    for name in ("tokens.json", "shards/00001.safetensors"):
        (tmp_path / name).unlink()
        with pytest.raises(ProductError, match=name.split("/")[-1]):
            features.check_files()
        read_features(made(8), LetterScope(), tmp_path, pairs_per_shard=4)


def test_a_damaged_shard_is_read_again(tmp_path: Path) -> None:
    pairs = made(8)
    read_features(pairs, LetterScope(), tmp_path, pairs_per_shard=4)
    before = files(tmp_path)
    (tmp_path / "shards" / "00001.safetensors").write_bytes(b"half")
    scope = LetterScope()
    read_features(pairs, scope, tmp_path, pairs_per_shard=4)
    assert scope.calls == 1
    assert files(tmp_path) == before


def test_reading_other_pairs_into_the_same_folder_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    read_features(made(20), LetterScope(), tmp_path / "reused", pairs_per_shard=4)
    other = made(6, "pairs-2")
    read_features(other, LetterScope("letters-2"), tmp_path / "reused", pairs_per_shard=4)
    read_features(other, LetterScope("letters-2"), tmp_path / "fresh", pairs_per_shard=4)
    assert files(tmp_path / "reused") == files(tmp_path / "fresh")


def test_features_of_other_pairs_or_another_scope_are_stale(tmp_path: Path) -> None:
    read_features(made(4), LetterScope(), tmp_path)
    with pytest.raises(StaleProductError, match="other pairs"):
        load_features(tmp_path, pairs=made(4, "pairs-2"))
    with pytest.raises(StaleProductError, match="other scope"):
        load_features(tmp_path, scope_fingerprint="letters-2")


def test_a_pair_that_cannot_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    pairs = made(6)
    long = Pair("long", (Turn("user", "too long"),), "a", "b", "g", 77)
    pairs = Pairs((*pairs.rows[:3], long, *pairs.rows[3:]), (), "explicit", "made", "pairs-3")
    features = read_features(pairs, LetterScope(), tmp_path, pairs_per_shard=2)
    assert "long" not in features.pair_ids
    assert len(features.pair_ids) == 6
    [refused] = load_features(tmp_path).refused
    assert (refused.pair_id, refused.row, refused.reason) == ("long", 77, "prompt fills max_length")
    check_against_loops(features, pairs, LetterScope())
    with pytest.raises(UsageError, match="no such pair"):
        features.span("long", "chosen")


def test_not_one_readable_pair_is_refused(tmp_path: Path) -> None:
    long = Pair("long", (Turn("user", "too long"),), "a", "b", "g", 1)
    with pytest.raises(ProductError, match="prompt fills max_length"):
        read_features(Pairs((long,), (), "explicit", "made", "p"), LetterScope(), tmp_path)


def test_what_was_cut_and_dropped_is_counted_for_each_pair(tmp_path: Path) -> None:
    features = read_features(made(5), LetterScope(), tmp_path, pairs_per_shard=2)
    np.testing.assert_array_equal(features.chosen.n_cut, [2] * 5)
    np.testing.assert_array_equal(features.rejected.n_dropped, [1] * 5)


@pytest.mark.parametrize("loud", [1e-12, 1e7])
def test_very_weak_and_very_strong_activations_survive_the_disk(tmp_path: Path, loud: float) -> None:
    pairs = made(4)
    features = read_features(pairs, LetterScope(loud=loud), tmp_path)
    quiet = read_features(pairs, LetterScope(), tmp_path / "usual")
    assert np.isfinite(features.chosen.max.data).all()
    np.testing.assert_array_equal(features.chosen.freq.toarray(), quiet.chosen.freq.toarray())


def test_an_unknown_side_or_token_is_refused(tmp_path: Path) -> None:
    features = read_features(made(4), LetterScope(), tmp_path)
    with pytest.raises(UsageError, match="prompt, chosen, rejected"):
        list(features.tables("winner"))
    with pytest.raises(UsageError, match="does not occur"):
        features.token_text(5)


def test_progress_is_told_in_pairs(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    read_features(made(5), LetterScope(), tmp_path, pairs_per_shard=2, progress=lambda *step: told.append(step))
    assert told == [("features", 2, 5), ("features", 4, 5), ("features", 5, 5)]
