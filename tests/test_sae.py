"""Autoencoders: encoding against a loop, training that resumes to the bit, and the scope that reads texts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the model side needs the extra tiltscope[torch]")
pytest.importorskip("transformers", reason="the model side needs the extra tiltscope[torch]")

from tiltscope.artifact import write_json  # noqa: E402
from tiltscope.errors import ModelError, StaleProductError  # noqa: E402
from tiltscope.features import Conversation, Features, load_features  # noqa: E402
from tiltscope.lm import LanguageModel, load_model  # noqa: E402
from tiltscope.pairs import Pair, Pairs, Turn  # noqa: E402
from tiltscope.sae import (  # noqa: E402
    LmSaeScope,
    ReadSettings,
    Sae,
    SaeTraining,
    TokenPool,
    estimate,
    load_sae,
    read_with_sae,
    save_sae,
    train_sae,
)
from tiltscope.sae import training as training_room  # noqa: E402
from tiny import tiny_model_folder  # noqa: E402

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "hello",
    "help",
    "sorry",
    "garden",
    "recipe",
    "story",
    "code",
    "**bold**",
    "1.",
    "🎉",
]


def made_sae(width: int = 32, n_latents: int = 50, seed: int = 0) -> Sae:
    generator = torch.Generator().manual_seed(seed)
    w_dec = torch.randn((n_latents, width), generator=generator)
    return Sae(
        w_enc=torch.randn((width, n_latents), generator=generator),
        b_enc=torch.randn(n_latents, generator=generator),
        w_dec=w_dec / w_dec.norm(dim=1, keepdim=True),
        b_dec=torch.randn(width, generator=generator),
        threshold=3.0,
        mean_norm=6.0,
        k=8,
        model_fingerprint="model",
        layer=2,
        template_fingerprint="template",
    )


def made_pool(n_tokens: int = 3000, width: int = 16, n_sources: int = 24) -> TokenPool:
    """Tokens that are sums of three of `n_sources` directions, in two parts of which some rows do not belong."""
    generator = np.random.default_rng(0)
    sources = generator.normal(size=(n_sources, width))
    sources /= np.linalg.norm(sources, axis=1, keepdims=True)
    strengths = np.zeros((n_tokens, n_sources))
    for row in strengths:
        row[generator.choice(n_sources, 3, replace=False)] = generator.uniform(1, 2, 3)
    tokens = torch.tensor(strengths @ sources + 5.0, dtype=torch.float32)
    half = n_tokens // 2
    rows = (np.arange(0, half), np.arange(10, n_tokens - half))
    return TokenPool((tokens[:half].to(torch.bfloat16), tokens[half:]), rows)


def made_pairs(n_pairs: int, seed: int = 0) -> Pairs:
    generator = np.random.default_rng(seed)

    def text(n_words: int) -> str:
        return " ".join(generator.choice(WORDS, n_words))

    rows = tuple(
        Pair(f"id{i}", (Turn("user", text(4)),), text(int(generator.integers(3, 20))), text(9), f"g{i % 40}", i + 1)
        for i in range(n_pairs)
    )
    return Pairs(rows, (), "explicit", "made", f"pairs-{n_pairs}-{seed}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load_model(str(folder), layer=2, device="cpu", dtype="float32")


def matching(lm: LanguageModel, **changes: object) -> Sae:
    facts = {
        "model_fingerprint": lm.source.fingerprint,
        "template_fingerprint": lm.renderer.template_fingerprint,
        "mean_norm": 1e6,
    }
    return dataclasses.replace(made_sae(), **{**facts, **changes})


def settings_for(folder: Path, **changes: object) -> ReadSettings:
    facts = {"model": str(folder), "layer": 2, "device": "cpu", "dtype": "float32", "n_latents": 64, "k": 8}
    return ReadSettings(**{**facts, **changes})  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_encode_equals_a_naive_loop() -> None:
    sae = made_sae()
    states = torch.randn((20, 32), generator=torch.Generator().manual_seed(1))
    expected = np.zeros((20, 50))
    for token in range(20):
        for latent in range(50):
            pre = sum(float(states[token, i] - sae.b_dec[i]) * float(sae.w_enc[i, latent]) for i in range(32)) + float(
                sae.b_enc[latent]
            )
            expected[token, latent] = pre if pre > sae.threshold else 0.0
    codes = sae.encode(states)
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-4)
    assert codes.dtype == np.float32
    assert 0 < codes.nnz < 20 * 50
    rebuilt = np.asarray(expected @ sae.w_dec.numpy() + sae.b_dec.numpy())
    np.testing.assert_allclose(sae.reconstruct(states).numpy(), rebuilt, atol=1e-3)


def test_encoding_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = made_sae()
    states = torch.randn((40, 32), generator=torch.Generator().manual_seed(1))
    whole = sae.encode(states).toarray()
    monkeypatch.setattr("tiltscope.sae.autoencoder._ENCODE_ROWS", 7)
    np.testing.assert_allclose(sae.encode(states).toarray(), whole, atol=1e-5)
    assert sae.encode(states[:0]).shape == (0, 50)


def test_the_direction_of_latents_is_where_they_write() -> None:
    sae = made_sae()
    expected = (sae.w_dec[3] + sae.w_dec[7]).numpy()
    np.testing.assert_allclose(sae.direction([3, 7]), expected / np.linalg.norm(expected), rtol=1e-5)


def test_a_saved_autoencoder_is_loaded_as_it_was(tmp_path: Path) -> None:
    sae = dataclasses.replace(made_sae(), report={"unexplained_variance": 0.25}, key="k")
    save_sae(sae, tmp_path / "sae.safetensors")
    loaded = load_sae(tmp_path)
    assert loaded.fingerprint == sae.fingerprint
    assert (loaded.k, loaded.layer, loaded.report, loaded.key) == (8, 2, {"unexplained_variance": 0.25}, "k")
    save_sae(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "sae.safetensors").read_bytes()


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read"):
        load_sae(tmp_path / "text.safetensors")
    save_file({"W_enc": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"docs/scope\.md"):
        load_sae(tmp_path / "other.safetensors")
    save_sae(dataclasses.replace(made_sae(), b_enc=torch.zeros(3)), tmp_path / "bad.safetensors")
    with pytest.raises(ModelError, match="b_enc of this autoencoder"):
        load_sae(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_fingerprint": "x"}, "another model"),
        ({"layer": 1}, "another layer"),
        ({"template_fingerprint": "x"}, "another chat template"),
    ],
)
def test_an_autoencoder_of_something_else_is_refused(lm: LanguageModel, change: dict[str, object], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        LmSaeScope(lm, matching(lm, **change))


def test_training_finds_the_directions_that_tokens_are_made_of() -> None:
    pool = made_pool()
    sae = train_sae(pool, SaeTraining(n_latents=64, k=4, n_tokens=400_000, batch_tokens=512, learning_rate=5e-3))
    tokens = pool.gather(np.arange(len(pool)))
    missed = (sae.reconstruct(tokens) - tokens).square().sum() / (tokens - tokens.mean(dim=0)).square().sum()
    assert float(missed) < 0.1
    assert sae.encode(tokens).nnz / len(pool) == pytest.approx(4, rel=0.05), "the threshold lets k fire on average"
    torch.testing.assert_close(sae.w_dec.norm(dim=1), torch.ones(64))


def test_a_pool_gathers_its_own_rows_in_the_order_asked() -> None:
    pool = made_pool()
    stacked = torch.cat(
        [part[torch.from_numpy(rows)].float() for part, rows in zip(pool.parts, pool.rows, strict=True)]
    )
    numbers = np.array([2900, 0, 1500, 1499, 7])
    torch.testing.assert_close(pool.gather(numbers), stacked[numbers], rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(list(pool.batches(100))), stacked, rtol=0, atol=0)
    assert len(pool) == 2990


def test_every_pass_of_training_sees_every_token_once() -> None:
    settings = SaeTraining(n_latents=8, batch_tokens=64, n_tokens=640)
    seen = np.concatenate([training_room._numbers(100, settings, step) for step in range(10)])
    for turn in range(6):
        np.testing.assert_array_equal(np.sort(seen[100 * turn : 100 * turn + 100]), np.arange(100))
    assert not np.array_equal(seen[:100], seen[100:200])


@pytest.mark.parametrize("floor", [0.0, 0.5, 100.0])
def test_the_batch_cut_is_the_same_whatever_the_guess(floor: float) -> None:
    pre = torch.randn((50, 30), generator=torch.Generator().manual_seed(0))
    cut = training_room._batch_cut(pre, 150, floor)
    assert int((pre >= cut).sum()) == 150


def test_a_killed_training_ends_in_the_same_bytes(tmp_path: Path) -> None:
    pool = made_pool()
    settings = SaeTraining(n_latents=64, k=4, n_tokens=20_000, batch_tokens=512, dead_after_tokens=2_000)
    whole = train_sae(pool, settings)

    def kill(stage: str, done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(pool, settings, checkpoint=tmp_path / "c.safetensors", checkpoint_seconds=0, progress=kill)
    told: list[int] = []
    again = train_sae(
        pool, settings, checkpoint=tmp_path / "c.safetensors", progress=lambda s, done, n: told.append(done)
    )
    assert told[0] > 1, "it goes on from the checkpoint"
    save_sae(whole, tmp_path / "whole.safetensors")
    save_sae(again, tmp_path / "again.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path: Path) -> None:
    pool = made_pool()
    one = SaeTraining(n_latents=64, k=4, n_tokens=5_000, batch_tokens=512)
    train_sae(pool, one, checkpoint=tmp_path / "c.safetensors", checkpoint_seconds=0)
    told: list[int] = []
    other = dataclasses.replace(one, seed=1)
    train_sae(pool, other, checkpoint=tmp_path / "c.safetensors", progress=lambda s, done, n: told.append(done))
    assert told[0] == 1


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ModelError, match="no response tokens"):
        train_sae(TokenPool((torch.zeros(3, 4),), (np.zeros(0, np.int64),)), SaeTraining(n_latents=8))


def conversation(text: str, prompt: str = "hello") -> Conversation:
    return Conversation((Turn("user", prompt),), text)


def test_a_text_reads_the_same_alone_and_in_company(lm: LanguageModel) -> None:
    scope = LmSaeScope(lm, matching(lm))
    texts = ["the garden", "sorry 🎉 of and the help " * 9, "", "what? **bold** number", "1. code"]
    together = scope.encode([conversation(text) for text in texts])
    for text, codes in zip(texts, together, strict=True):
        [alone] = scope.encode([conversation(text)])
        for span in ("prompt", "response"):
            one, other = getattr(alone, span), getattr(codes, span)
            np.testing.assert_array_equal(one.token_ids, other.token_ids)
            np.testing.assert_array_equal(one.codes.toarray() > 0, other.codes.toarray() > 0)
            np.testing.assert_allclose(one.codes.toarray(), other.codes.toarray(), rtol=1e-4)


def test_in_bfloat16_company_moves_activations_by_rounding_only(folder: Path) -> None:
    lm = load_model(str(folder), layer=2, device="cpu", dtype="bfloat16")
    scope = LmSaeScope(lm, matching(lm))
    texts = ["the garden", "sorry 🎉 of and the help " * 9, "what? **bold** number"]
    together = scope.encode([conversation(text) for text in texts])
    for text, codes in zip(texts, together, strict=True):
        [alone] = scope.encode([conversation(text)])
        one, other = alone.response.codes.toarray(), codes.response.codes.toarray()
        assert np.mean((one > 0) != (other > 0)) < 0.02
        both = (one > 0) & (other > 0)
        np.testing.assert_allclose(one[both], other[both], rtol=0.1)


def test_reading_twice_gives_the_same_bits(lm: LanguageModel) -> None:
    scope = LmSaeScope(lm, matching(lm))
    texts = [conversation("the garden"), conversation("sorry 🎉")]
    for one, other in zip(scope.encode(texts), scope.encode(texts), strict=True):
        np.testing.assert_array_equal(one.response.codes.data, other.response.codes.data)
        np.testing.assert_array_equal(one.response.codes.indices, other.response.codes.indices)


def test_outliers_are_dropped_by_the_stored_norm_and_counted(lm: LanguageModel) -> None:
    texts = [conversation("the of and to hello help")]
    [everything] = LmSaeScope(lm, matching(lm)).encode(texts)
    [nothing] = LmSaeScope(lm, matching(lm, mean_norm=1e-6)).encode(texts)
    assert nothing.n_dropped == len(everything.response.token_ids) > 0
    assert len(nothing.response.token_ids) == 0


def test_a_prompt_that_fills_max_length_comes_back_refused(folder: Path) -> None:
    lm = load_model(str(folder), layer=2, device="cpu", dtype="float32", max_length=30)
    scope = LmSaeScope(lm, matching(lm))
    long, fine = scope.encode([conversation("the", "garden " * 30), conversation("the")])
    assert long.refused == "prompt fills max_length"
    assert not fine.refused
    assert len(fine.response.token_ids) == 1


def read_whole(pairs: Pairs, folder: Path, study: Path) -> Features:
    return read_with_sae(pairs, settings_for(folder), study)


def test_a_dataset_is_read_trained_on_and_reported(folder: Path, tmp_path: Path) -> None:
    pairs = made_pairs(100)
    features = read_whole(pairs, folder, tmp_path)
    assert features.pair_ids == tuple(row.id for row in pairs.rows)
    report = load_sae(tmp_path / "scope").report
    assert 0 < report["unexplained_variance"] < 1
    assert 0 <= report["silent_latents"] < 1
    assert set(report["loss_nats"]) == {"clean", "spliced", "mean_ablated", "n_texts"}
    assert report["n_held_out_tokens"] > 0
    assert not (tmp_path / "scope" / "cache").exists()
    row = pairs.rows[0]
    span = features.span(row.id, "chosen")
    assert span.starts[0] == 0
    assert span.ends[-1] == len(row.chosen)


def test_a_reading_killed_at_any_stage_ends_in_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pairs = made_pairs(100)
    read_whole(pairs, folder, tmp_path / "whole")
    stages = ["model", "autoencoder", "features"]
    for stage in stages:

        def kill(at: str, done: int, total: int, stage: str = stage) -> None:
            if at == stage:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            read_with_sae(pairs, settings_for(folder), tmp_path / "killed", progress=kill)
    read_whole(pairs, folder, tmp_path / "killed")
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_other_data_are_read_through_a_saved_autoencoder(folder: Path, tmp_path: Path) -> None:
    pairs = made_pairs(70)
    first = read_whole(pairs, folder, tmp_path / "one")
    through = settings_for(folder, sae=str(tmp_path / "one" / "scope"), layer=None)
    same = read_with_sae(pairs, through, tmp_path / "same")
    assert same.fingerprint == first.fingerprint
    for side in ("chosen", "rejected", "prompt"):
        np.testing.assert_array_equal(getattr(same, side).max.toarray(), getattr(first, side).max.toarray())
    other = read_with_sae(made_pairs(30, seed=1), through, tmp_path / "other")
    assert other.scope_fingerprint == first.scope_fingerprint
    with pytest.raises(StaleProductError):
        load_features(tmp_path / "other" / "features", pairs=pairs)


def test_the_estimate_names_every_stage(folder: Path) -> None:
    seconds = estimate(made_pairs(80), settings_for(folder))
    assert set(seconds) == {"loading", "model", "autoencoder", "features"}
    assert all(value > 0 for value in seconds.values())


def test_what_is_read_through_a_saved_autoencoder_is_cut_as_it_was_unless_told_otherwise(tmp_path: Path) -> None:
    from tiltscope.cli.shared import read_settings

    (tmp_path / "scope").mkdir()
    write_json(tmp_path / "scope" / "scope.json", {"max_length": 192})
    bare = {"model": None, "layer": None, "template": None, "device": None, "seed": 0, "max_length": None}
    for sae in (tmp_path / "scope", tmp_path / "scope" / "sae.safetensors"):
        assert read_settings(bare | {"sae": str(sae)}).max_length == 192
    assert read_settings(bare | {"sae": str(tmp_path / "scope"), "max_length": 64}).max_length == 64
    assert read_settings(bare | {"sae": "train"}).max_length == 1024
