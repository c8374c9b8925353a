"""Markup, addresses, languages, and evaluation texts in documents."""

import json
import sys
from pathlib import Path

import pytest

from electra.config.cleaning import CleaningSettings
from electra.corpus.cleaning.contamination import Contamination
from electra.corpus.cleaning.languages import SCRIPT_OF, LanguageRule
from electra.corpus.cleaning.markup import without_markup
from electra.corpus.cleaning.personal_data import mask_personal_data
from electra.corpus.cleaning.writing import SCRIPTS, script_letters
from electra.corpus.filters import Cleaner, write_contamination
from electra.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('<p class="x">One <b>bold</b> word.</p>', "\nOne bold word.\n"),
        ("a<br/>b", "a\nb"),
        ("<script>var x = 1;</script>after<!-- no -->", "after"),
        ("fish &amp; chips &lt;3 &#8212; caf&eacute; &#x41;", "fish & chips <3 — café A"),
        ("&amp;amp;amp;quot;", '"'),
        ("'''Köln''' is a [[city|town]] on the [[Rhine]]{{cite}}.", "Köln is a town on the Rhine."),
        ("[[File:x.png|thumb]]== History ==", "History"),
        ("== History ==\nOld.", "History\nOld."),
        ("see [http://a.org the page]<ref name=x>p. 3</ref>", "see the page"),
        ("{| class=w\n|-\n! a=1 | b\ncell\n|}", "\n\n\ncell\n"),
    ],
)
def test_markup_goes(text: str, clean: str) -> None:
    found, count, more = without_markup(text)
    assert found == clean
    assert count > 0
    assert not more


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "AT&T and R&D; &unknown;", "x[1] = y", "it's {fine}", "List<int>"]
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert without_markup(text) == (text, 0, False)


def test_markup_in_many_layers() -> None:
    deep = "<b" * 8 + ">" * 8
    assert without_markup("<" * 3 + "b>" * 3)[0] == ""
    text = "x"
    for _ in range(8):
        text = "{{a" + text + "}}"
    assert without_markup(text)[2]
    assert Cleaner(CleaningSettings(markup=True))(text) is None
    assert without_markup(deep)[1] >= 0


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.org.", "write to email@example.com."),
        ("<a@b.co>, b_c@d-e.fr", "<email@example.com>, email@example.com"),
        ("ping 8.8.8.8, then 1.1.1.1.", "ping 22.214.171.124, then 22.214.171.124."),
        ("2001:4860:4860::8888 and 2606:4700::1111", "2001:db8::1 and 2001:db8::1"),
        ("2a00:1450:4001:82a:0:0:0:200e", "2001:db8::1"),
        ("2a00:1450::", "2001:db8::1"),
    ],
)
def test_addresses_are_masked(text: str, masked: str) -> None:
    found, counts = mask_personal_data(text)
    assert found == masked
    assert sum(counts.values()) == text.count(" and ") + text.count(", ") + 1
    assert mask_personal_data(masked) == (masked, {})


@pytest.mark.parametrize(
    "text",
    [
        "192.168.0.1 127.0.0.1 10.1.2.3",
        "version 1.2.3.4.5 and 999.8.8.8 and 8.8.8.256 and 1.2.3",
        "at 12:30:45, @home, me@localhost, a @ b.c",
        "std::vector a::b 2001:db8::7 fe80::1 ::1 2400:1",
    ],
)
def test_what_is_no_public_address_stays(text: str) -> None:
    assert mask_personal_data(text) == (text, {})


def test_long_runs_are_masked_in_time() -> None:
    run = "a." * 100_000 + "@" + "b." * 100_000
    assert mask_personal_data(run)[0] == run  # no end of a domain
    most, beyond = "x" * 64 + "@host.org", "x" * 300_000 + "@host.org"
    assert mask_personal_data(most)[0] == "email@example.com"
    assert mask_personal_data(beyond)[0] == beyond


def test_scripts() -> None:
    assert script_letters("Ab é, 12 — 中文 かな 한글 αβ жи שלום العربية") == {
        "Latin": 3,
        "Greek": 2,
        "Cyrillic": 2,
        "Hebrew": 4,
        "Arabic": 7,
        "Hangul": 2,
        "Kana": 2,
        "Han": 2,
    }
    assert set(SCRIPT_OF.values()) == set(SCRIPTS)


def test_languages_by_script() -> None:
    def kept(languages: str, text: str) -> bool:
        return LanguageRule(languages, share=0.5, model="script")(text)

    # long enough for a film's Japanese name
    chinese = "中文维基百科使用 MediaWiki 软件，电影《トトロ》很有名，观众都喜欢看，"
    chinese += (
        "大家一起去电影院，看完以后在附近的餐厅吃晚饭，然后坐地铁回家，到家的时候已经很晚了。"
    )
    japanese = "日本語の文章には漢字と仮名が使われています。"
    for text in (chinese, "繁體中文與簡體中文都是中文"):
        assert kept("zh", text)
        assert not kept("ja", text)
        assert not kept("en,de", text)
    assert kept("ja", japanese)
    assert not kept("zh", japanese)
    assert kept("en,zh", "English words and more English words")
    assert kept("en,zh", chinese)
    assert kept("ru", "Привет, world")
    assert not kept("ru", "Hi, привет, my friend")
    assert not kept("en", "12345 -- 678")  # no letters
    # exactly at the share, and just below
    assert LanguageRule("ru", share=0.5, model="script")("жжж aaa")
    assert not LanguageRule("ru", share=0.5, model="script")("жжж aaaa")


def test_language_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--cleaning.languages has english; codes of two"):
        LanguageRule("english", share=0.5)
    with pytest.raises(ConfigError, match=r"--cleaning.languages is empty"):
        LanguageRule(" ,", share=0.5)
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.delitem(sys.modules, "py3langid.langid", raising=False)
    with pytest.raises(ConfigError, match=r'not installed: pip install "electra\[language\]"'):
        LanguageRule("en", share=0.5, model="py3langid")
    without = LanguageRule("en", share=0.5, model="auto")
    assert without.judged_by == "script (auto: py3langid is not installed)"
    assert LanguageRule("en", share=0.5, model="script").judged_by == "script"
    cleaner = Cleaner(CleaningSettings(languages="zh"))
    assert cleaner("English, not Chinese") is None
    assert cleaner.removed == {"language: not zh": 1}
    assert cleaner.report()["languages_by"] == "script"


def test_language_model() -> None:
    pytest.importorskip("py3langid", reason="py3langid is not installed (extra language)")
    english = "The people of the town walked to the market, and it was a good day for them."
    german = "Die Leute aus der Stadt gingen zum Markt, und es war ein guter Tag für sie alle."
    rule = LanguageRule("en", share=0.5)
    assert rule.judged_by.startswith("script and py3langid 0.")
    assert rule(english)
    assert not rule(german)
    assert LanguageRule("en,de", share=0.5)(german)
    assert LanguageRule("de", share=0.5)._model is rule._model  # read once a process
    assert LanguageRule("zh", share=0.5).judged_by == "script"  # nothing for it to tell apart


QUESTION = "Which river flows through the old town, and where does it reach the cold northern sea?"


def test_evaluation_texts_are_found(tmp_path: Path) -> None:
    first, second = tmp_path / "dev.jsonl", tmp_path / "test.txt"
    rows = [{"id": 7, "question": QUESTION, "choices": ["A short one"]}]
    first.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    second.write_text("one two three four five six seven eight nine ten eleven twelve thirteen\n")
    settings = CleaningSettings(contaminated=(str(first), str(second)))
    facts = write_contamination(settings, tmp_path / "work")
    assert facts is not None
    assert facts["texts"] == 3
    assert facts["short"] == 1
    assert facts["ngrams"] == 4 + 1
    index = Contamination.open(tmp_path / "work" / "contamination")
    words = QUESTION.rstrip("?").split()
    # thirteen of its sixteen words, in other case, without the comma, over two lines
    inside = (
        "Before. " + " ".join(words[3:]).upper().replace(",", " -").replace("SEA", "sea\n") + "!"
    )
    assert index(inside) == str(first)
    assert index("Before. " + " ".join(words[4:]) + " again") is None  # twelve
    assert index(" ".join(words[:7]) + " and " + " ".join(words[7:])) is None
    assert index(QUESTION.replace("river", "stream")) == str(first)
    assert index(
        "Nine, one two three four five six seven eight nine ten eleven twelve thirteen"
    ) == (str(second))
    assert index("") is None

    from types import SimpleNamespace

    recipe = SimpleNamespace(cleaning=settings, min_chars=5, language="en")
    cleaner = Cleaner.of(recipe, tmp_path / "work")
    assert cleaner(inside) is None
    assert cleaner.removed == {f"evaluation text: 13 words in {first}": 1}
    assert cleaner("Nothing of the kind.") is not None
    assert write_contamination(CleaningSettings(), tmp_path) is None


def test_evaluation_texts_in_chinese(tmp_path: Path) -> None:
    question = "这条河流经古老的城镇以后在什么地方流入寒冷的北方大海呢请回答这个问题"
    (tmp_path / "zh.txt").write_text(question + "\n" + "太短的句子\n", encoding="utf-8")
    index = Contamination.build([tmp_path / "zh.txt"])
    assert index.facts["short"] == 1
    assert index.facts["ngrams"] == len(question) - 26 + 1
    assert index("Before it: " + question[2:28] + "，以后") is not None
    assert index("Before it: " + question[2:27] + "，以后") is None  # 25
    assert index(question[2:10] + "，\n" + question[10:28]) is not None


def test_index_of_nothing_and_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short to match\n")
    with pytest.raises(DataError, match="none of the 1 texts in 1 files has 13 words; lower"):
        Contamination.build([tmp_path / "a.txt"])
    with pytest.raises(DataError, match="does not exist"):
        Contamination.build([tmp_path / "b.txt"])
    index = Contamination.build([tmp_path / "a.txt"], words=2)
    index.save(tmp_path / "index")
    file = tmp_path / "index" / "ngrams.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match="holds no whole index of evaluation texts"):
        Contamination.open(tmp_path / "index")


def test_an_index_is_opened_once_a_process(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three\n")
    Contamination.build([tmp_path / "a.txt"], words=2).save(tmp_path / "index")
    index = Contamination.shared(tmp_path / "index")
    assert Contamination.shared(tmp_path / "index") is index
    Contamination.build([tmp_path / "a.txt"], words=3).save(tmp_path / "index")
    assert Contamination.shared(tmp_path / "index").facts["words"] == 3  # another came there
    with pytest.raises(DataError, match="holds no whole index"):
        Contamination.shared(tmp_path / "nothing")


def test_more_evaluation_files_than_can_be_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one two three\n")
    files = [tmp_path / "a.txt"] * 65_536
    monkeypatch.setattr("electra.corpus.cleaning.contamination.expand", list)
    with pytest.raises(DataError, match=r"holds 65,536 files; allowed: 65,535; join some"):
        Contamination.build(files, words=2)
