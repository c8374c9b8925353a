"""Scores of tokens against the plain Auto classes, one sentence and one position at a time."""

import math
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from electra.errors import CheckpointError, ConfigError, DataError
from electra.evaluation import scoring_methods
from electra.evaluation.token_scores import TextScorer
from tests.tiny import VOCABULARY, make_encoder, make_tokenizer, sentences

TEXTS = [text for text, _ in sentences(12, 5)] + ["film", "Warmly was there ZZZ, the good PLAY"]
PARTS = [
    ("classic", "generator"),
    ("modern", "generator"),
    ("mlm", "masked_lm"),
    ("classic", "discriminator"),
    ("modern", "discriminator"),
]


def slow_masked_lm(folder: Path, text: str) -> list[float]:
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    scores = []
    for place in range(1, ids.shape[1] - 1):
        hidden = ids.clone()
        hidden[0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            probabilities = model(input_ids=hidden).logits[0, place].double().softmax(-1)
        scores.append(math.log(probabilities[ids[0, place]]))
    return scores


def slow_discriminator(folder: Path, text: str) -> list[float]:
    classic = AutoConfig.from_pretrained(folder).model_type == "electra"
    auto: Any = AutoModelForPreTraining if classic else AutoModelForTokenClassification
    model = auto.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double()
    if classic:
        return (1 - logits.sigmoid()).log().tolist()[1:-1]
    replaced = (logits[:, 1] - logits[:, 0]).sigmoid()
    return (1 - replaced).log().tolist()[1:-1]


@pytest.mark.parametrize(("run", "part"), PARTS)
def test_parity_with_the_auto_classes(runs: dict[str, Path], run: str, part: str) -> None:
    folder = runs[run] / part
    scorer = TextScorer.open(folder, device="cpu", batch_size=7)
    masked = part != "discriminator"
    assert scorer.method == ("pseudo-log-likelihood" if masked else "discriminator")
    slow = slow_masked_lm if masked else slow_discriminator
    spread = set()
    for text, score in zip(TEXTS, scorer.score(TEXTS), strict=True):
        wanted = slow(folder, text)
        assert score.token_scores == pytest.approx(wanted, abs=1e-5)
        assert score.total == pytest.approx(sum(wanted), abs=1e-5)
        spread |= {round(s, 2) for s in wanted}
    assert len(spread) > 20, "scores that are all alike prove nothing"


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "modernbert"])
def test_parity_for_any_masked_lm(tmp_path: Path, family: str) -> None:
    make_encoder(tmp_path, family)
    torch.manual_seed(2)
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(tmp_path))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    scores = TextScorer.open(str(tmp_path), device="cpu").score(TEXTS)
    for text, score in zip(TEXTS, scores, strict=True):
        assert score.token_scores == pytest.approx(slow_masked_lm(tmp_path, text), abs=1e-5)


def test_logits_of_all_positions_come_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_encoder(tmp_path, "bert")
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path)
    scorer = TextScorer.open(tmp_path, device="cpu", batch_size=64)
    whole = scorer.score(TEXTS)
    sizes = []
    linear = torch.nn.Linear.forward

    def spy(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if self.out_features == len(VOCABULARY):
            sizes.append(x.shape[:-1].numel() * self.out_features)
        return linear(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", spy)
    monkeypatch.setattr(scoring_methods, "_MOST_LOGITS", 1_500)
    for one, other in zip(scorer.score(TEXTS), whole, strict=True):
        assert one.token_scores == pytest.approx(other.token_scores, abs=1e-5)
    assert max(sizes) <= 1_500
    assert len(sizes) < sum(len(score.tokens) for score in whole)  # not row by row


@pytest.mark.parametrize("run", ["classic", "modern"])
def test_masked_positions_alone_meet_the_vocabulary(
    runs: dict[str, Path], run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    linear = torch.nn.Linear.forward

    def spy(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if self.out_features == len(VOCABULARY):
            rows.append(x.shape[:-1].numel())
        return linear(self, x)

    scorer = TextScorer.open(runs[run] / "generator", device="cpu", batch_size=5)
    monkeypatch.setattr(torch.nn.Linear, "forward", spy)
    tokens = sum(len(score.tokens) for score in scorer.score(TEXTS))
    assert sum(rows) == tokens
    assert max(rows) == 5


@pytest.mark.parametrize(("run", "part"), PARTS)
def test_neighbours_and_batches_change_nothing(runs: dict[str, Path], run: str, part: str) -> None:
    folder = runs[run] / part
    together = TextScorer.open(folder, device="cpu", batch_size=32).score(TEXTS)
    backwards = TextScorer.open(folder, device="cpu", batch_size=3).score(TEXTS[::-1])[::-1]
    scorer = TextScorer.open(folder, device="cpu", batch_size=1)
    for text, one, other in zip(TEXTS, together, backwards, strict=True):
        alone = scorer.score([text])[0]
        for score in (one, other):
            assert score.token_scores == pytest.approx(alone.token_scores, abs=1e-5)
            assert score.tokens == alone.tokens
    assert TextScorer.open(folder, device="cpu", batch_size=32).score(TEXTS) == together


@pytest.mark.parametrize(("run", "part"), PARTS)
def test_the_same_tokens_score_the_same_to_the_bit(
    runs: dict[str, Path], run: str, part: str
) -> None:
    texts = ["a fine film", *TEXTS, "A  FINE film", "a zzz film", "a yyy film"]
    scores = TextScorer.open(runs[run] / part, device="cpu", batch_size=2).score(texts)
    assert scores[0].total == scores[-3].total
    assert scores[-1].token_scores == scores[-2].token_scores
    assert scores[0].total != scores[-1].total


def test_tokens_and_their_places(runs: dict[str, Path]) -> None:
    scorer = TextScorer.open(runs["modern"] / "discriminator", device="cpu")
    text = "\U0001f600 Warmly the  Ébook film"
    score, empty = scorer.score([text, " "])
    assert score.tokens == ["[UNK]", "warm", "##ly", "the", "[UNK]", "film"]
    assert [text[a:b] for a, b in score.offsets] == [
        "\U0001f600",
        "Warm",
        "ly",
        "the",
        "Ébook",
        "film",
    ]
    assert len(score.token_scores) == 6
    assert score.total == math.fsum(score.token_scores)
    assert (empty.total, empty.tokens, empty.token_scores, empty.offsets) == (0.0, [], [], [])
    assert scorer.score([]) == []


def test_which_part_of_a_run(runs: dict[str, Path]) -> None:
    def opened(run: str, method: str = "auto") -> tuple[str, str]:
        scorer = TextScorer.open(runs[run], method=method, device="cpu")
        return Path(scorer.folder).name, scorer.method

    assert opened("classic") == ("discriminator", "discriminator")
    assert opened("classic", "pseudo-log-likelihood") == ("generator", "pseudo-log-likelihood")
    assert opened("mlm") == ("masked_lm", "pseudo-log-likelihood")
    with pytest.raises(ConfigError, match=r"neither itself nor in discriminator/$"):
        opened("mlm", "discriminator")


def test_what_does_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(model: Path, message: str, **options: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            TextScorer.open(model, device="cpu", **options)

    fails(runs["modern"] / "encoder", "holds ModernBertModel, which scores no tokens; allowed: a d")
    fails(tmp_path / "gone", "gone does not exist")
    fails(tmp_path, r"no config.json, neither itself nor in discriminator/, masked_lm/, generator/")
    fails(runs["modern"], 'did you mean "discriminator"', method="discriminater")
    fails(runs["modern"], "--batch-size is 0; allowed: above 0", batch_size=0)
    generator = runs["classic"] / "generator"
    fails(generator, "holds ElectraForMaskedLM", method="discriminator")
    fails(runs["modern"] / "discriminator", "lacks .* tensors", method="pseudo-log-likelihood")
    fails(runs["modern"] / "discriminator", "needs the discriminator/ of", method="electric")
    other = AutoModelForTokenClassification.from_config(
        AutoConfig.from_pretrained(runs["modern"] / "encoder")
    )
    other.save_pretrained(tmp_path / "tagger")
    make_tokenizer(tmp_path / "tagger")
    fails(tmp_path / "tagger", "holds ModernBertForTokenClassification, which scores no tokens")


def test_too_long_a_text(runs: dict[str, Path]) -> None:
    scorer = TextScorer.open(runs["modern"] / "generator", device="cpu")
    assert len(scorer.score(["the " * 30])[0].tokens) == 30
    with pytest.raises(DataError, match=r'a text has 33 tokens, .* reads at most 32: split it \("'):
        scorer.score(["film", "the " * 31])


def test_damaged_weights(runs: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(runs["modern"] / "generator")
    with torch.no_grad():
        model.decoder.bias.fill_(math.nan)
    model.save_pretrained(tmp_path)
    make_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="scores that are no numbers"):
        TextScorer.open(tmp_path, device="cpu").score(["film"])


def test_progress(runs: dict[str, Path]) -> None:
    told: list[tuple[int, int]] = []
    scorer = TextScorer.open(runs["mlm"], device="cpu", batch_size=4)
    scorer.score(["a film", "the good play", "a film"], lambda *numbers: told.append(numbers))
    assert told == [(4, 5), (5, 5)]


def test_special_tokens_in_a_text_are_text(runs: dict[str, Path]) -> None:
    scorer = TextScorer.open(runs["modern"] / "discriminator", device="cpu")
    brackets = ["[UNK]"] * 3  # the vocabulary has none
    for token in ("[SEP]", "[PAD]", "[MASK]", "[CLS]"):
        assert scorer.score([f"a {token} film"])[0].tokens == ["a", *brackets, "film"]


def test_a_folder_without_a_tokenizer(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        copyfile(runs["classic"] / "discriminator" / name, tmp_path / name)
    with pytest.raises(ConfigError, match=r"holds no tokenizer \(tokenizer.json, vocab.txt, ...\)"):
        TextScorer.open(tmp_path, device="cpu")
