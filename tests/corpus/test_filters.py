"""The cleaner as a whole: order of the rules, counts, examples, languages, idempotence."""

import pickle
import tracemalloc
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.config.cleaning import CleaningSettings
from electra.corpus.cleaning.characters import _CONTROL, one_line_end, tidy
from electra.corpus.filters import Cleaner, document_digest, document_digest_of, merge_reports
from electra.errors import ConfigError

EVERYTHING = CleaningSettings(
    markup=True, c4=True, repetition=True, gopher=True, fineweb=True, personal_data=True
)
CHANGES = CleaningSettings(markup=True, personal_data=True)
TEXTS = {
    "zh": "昨天下午下了一场大雨，街上的人都跑进了附近的茶馆。老板给每个人倒了一杯热茶，大"
    "家一边喝茶一边聊天，等到雨停的时候，天已经快黑了。我和朋友决定不坐车，慢慢地走"
    "回家去，路上的空气很新鲜，远处的山也看得清楚。",
    "ja": "昨日の午後に大雨が降ったので、通りの人たちはみんな近くの喫茶店に駆け込みました"
    "。店の主人が熱いお茶を出してくれて、雨が止むまで話をしながら待ちました。帰り道"
    "は歩くことにして、きれいな空気を吸いながらゆっくり家に戻りました。",
    "ko": "어제 오후에 큰비가 내려서 거리에 있던 사람들이 모두 가까운 찻집으로 뛰어 "
    "들어갔다. 주인은 모두에게 따뜻한 차를 따라 주었고, 우리는 비가 그칠 때까지 "
    "이야기를 나누었다. 저녁이 되어서야 집으로 천천히 걸어 돌아왔다.",
    "tr": "Dün öğleden sonra şiddetli bir yağmur yağdı ve sokaktaki herkes yakındaki "
    "çayhaneye koştu. Çaycı herkese sıcak çay verdi; yağmur dinene kadar konuştuk. "
    "Akşam olunca ağır ağır yürüyerek eve döndük.",
    "ar": "هطل مطر غزير بعد ظهر أمس، فركض الناس في الشارع إلى المقهى القريب. قدم صاحب "
    "المقهى الشاي الساخن للجميع، وتحدثنا حتى توقف المطر. ثم عدنا إلى البيت سيرا "
    "على الأقدام ونحن نستمتع بالهواء النقي.",
    "de": "Gestern Nachmittag regnete es so stark, dass alle Leute in das nächste "
    "Teehaus liefen. Der Wirt schenkte jedem heißen Tee ein, und wir redeten, bis "
    "es aufhörte. Abends gingen wir langsam heim.",
    "other": "เมื่อวานตอนบ่ายฝนตกหนักมาก ผู้คนบนถนนจึงวิ่งเข้าไปในร้านน้ำชาใกล้ๆ เจ้าของร้าน"
    "รินชาร้อนให้ทุกคน พวกเราคุยกันจนฝนหยุด แล้วค่อยๆ เดินกลับบ้านในตอนเย็น",
}


@pytest.mark.parametrize("language", TEXTS)
def test_texts_of_many_languages_stay(language: str) -> None:
    text = unicodedata.normalize("NFC", TEXTS[language])
    long = "\n".join([text] * 6)
    for wanted in {language, "other"}:
        cleaner = Cleaner(min_chars=20, language=wanted)
        assert cleaner(text) is text
        assert cleaner(long) is long
        assert cleaner.removed == {}


def test_what_is_tidied() -> None:
    assert tidy("a\r\nb\rc\u2028d\x0ce") == "a\nb\nc\nd\ne"
    assert tidy("  a\t\u3000 b \n\n \n c ") == "a b\nc"
    assert tidy("in\u200bvi\xadsi\u2060ble\x00\ufeff\u202e") == "invisible"
    assert tidy("half \ud83d of a pair") == "half of a pair"
    assert tidy("e\u200b\u0301") == "\u00e9"  # composed after what stood between is gone
    assert tidy("می\u200cروم") == "می\u200cروم"  # a joiner that Persian is spelled with
    assert tidy("\uff21\ufb01", "NFKC") == "Afi"
    assert tidy("\uff21\ufb01 e\u0301", "none") == "\uff21\ufb01 e\u0301"
    clean = "Already clean.\nTwo lines."
    assert tidy(clean) is clean
    assert tidy("") == tidy("\n \t") == ""


@given(st.text(alphabet=st.characters(codec=None), max_size=60), st.sampled_from(["NFC", "NFKC"]))
def test_tidy_is_idempotent(text: str, form: str) -> None:
    once = tidy(text, form)
    assert tidy(once, form) == once
    assert unicodedata.is_normalized(form, once)  # type: ignore[arg-type]
    once.encode("utf-8")


@given(st.text("a b\n\t\u3000\xa0\u2000\u2003\u202f\r\u200b\u0301", max_size=20))
def test_tidy_leaves_the_words_of_the_lines(text: str) -> None:
    plain = unicodedata.normalize("NFC", _CONTROL.sub("", one_line_end(text)))
    lines = (" ".join(line.split()) for line in plain.split("\n"))
    assert tidy(text) == "\n".join(filter(None, lines))


def test_tidying_a_long_line_takes_no_str_a_word() -> None:
    text = "a bc\t" * 200_000
    tracemalloc.start()
    try:
        tidy(text)
        assert tracemalloc.get_traced_memory()[1] < 6 * len(text)
    finally:
        tracemalloc.stop()


_WORDS = st.sampled_from(
    [
        "a.",
        "<b>",
        "</b>",
        "&amp;lt;",
        "&lt;",
        "b&gt;",
        "[[x|y]]",
        "[[",
        "]]",
        "{{t}}",
        "''",
        "''''",
        "me@host.org",
        "@",
        "8.8.8.8",
        ".9",
        ":",
        "word",
        "e",
        "2a00:1450::5",
        "́",
        "[1]",
        "[",
        "1]",
        "<",
        "br>",
        "<!--",
        "-->",
        "&#x3c;",
        "&amp;amp;",
        "==",
        "h",
        "\n",
        " ",
        "== h ==",
        "[http://a b]",
    ]
)


@settings(deadline=None)
@given(st.lists(_WORDS, max_size=25).map("".join))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    for rules in (CleaningSettings(), CHANGES):
        once = Cleaner(rules)(text)
        if once is not None:
            again = Cleaner(rules)
            assert again(once) == once
            assert not again.removed
            assert not again.changed


def test_cleaning_twice_with_every_rule() -> None:
    sentence = "The people of the town {} walked to the market [3] and wrote to me@host.org then."
    names = ["Anna", "Berta", "Clara", "Dora", "Emma", "Frieda", "Gerda", "Hanna"]
    lines = [sentence.format(n).replace("wrote", f"{n.lower()} wrote") for n in names]
    extra = ["Menu", "Please enable Javascript to read on."]
    once = Cleaner(EVERYTHING, min_chars=20)
    text = once("\n".join(lines + extra))
    # eight lines that differ in a name repeat their n-grams
    assert text is None
    assert once.removed == {"repetition: most frequent n-gram": 1}
    rules = CleaningSettings(c4=True, gopher=True, fineweb=True, personal_data=True)
    once = Cleaner(rules, min_chars=20)
    text = once("\n".join(lines + extra))
    assert text is not None
    assert once.changed == {"c4: lines removed": 2, "e-mail addresses masked": 8}
    assert "[3]" not in text
    again = Cleaner(rules, min_chars=20)
    assert again(text) == text
    assert not again.changed


def test_counts_and_examples() -> None:
    cleaner = Cleaner(min_chars=5)
    assert [cleaner(t) for t in ["ab", "", "long enough", "cd", "ef", "\x00"]][2] == "long enough"
    report = cleaner.report()
    assert report["read"] == 6
    assert report["kept"] == 1
    assert report["removed"] == {"shorter than min_chars": 5}
    assert report["examples"] == {"shorter than min_chars": ["ab", "", "cd"]}
    assert Cleaner(min_chars=0)("") is None
    assert Cleaner(min_chars=0)("x") == "x"
    hashes = Cleaner()
    assert hashes("# word " * 400) is None
    assert hashes.examples == {"symbols: hashes": [("# word " * 400)[:200]]}


def test_a_document_is_removed_once_and_all_are_counted() -> None:
    bad = ["# a " * 60, "short", "- x...\n" * 60, "1 2 3 " * 40, "<b>" * 9]
    cleaner = Cleaner(EVERYTHING, min_chars=6)
    kept = [cleaner(text) for text in bad]
    assert kept == [None] * len(bad)
    assert sum(cleaner.removed.values()) == cleaner.read == len(bad)
    assert cleaner.kept == 0


def test_reports_merge_in_any_grouping() -> None:
    def report(*texts: str) -> dict[str, object]:
        cleaner = Cleaner(CHANGES, min_chars=3)
        for text in texts:
            cleaner(text)
        return cleaner.report()

    a, b, c = report("1", "2", "mail me@host.org"), report("3", "4", "<b>"), report("kept")
    whole = report("1", "2", "mail me@host.org", "3", "4", "<b>", "kept")
    assert merge_reports([a, b, c]) == whole
    assert merge_reports([merge_reports([a, b]), c]) == merge_reports([a, merge_reports([b, c])])
    assert a == report("1", "2", "mail me@host.org")  # untouched
    assert merge_reports([])["read"] == 0


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"--cleaning.normalization is NFD; allowed: NFC, NFKC"):
        CleaningSettings(normalization="NFD")
    with pytest.raises(ConfigError, match=r"--cleaning.language-share is 2; allowed: 0 to 1"):
        CleaningSettings(language_share=2)
    with pytest.raises(ConfigError, match=r"--cleaning.language-model is lid; allowed: auto"):
        CleaningSettings(language_model="lid")
    with pytest.raises(ConfigError, match=r"--cleaning.contamination-words is 1; allowed: 2 to"):
        CleaningSettings(contamination_words=1)
    with pytest.raises(ConfigError, match=r"--cleaning.languages has xx"):
        Cleaner(CleaningSettings(languages="en,xx"))


def test_worker_processes_get_it(tmp_path: Path) -> None:
    recipe = SimpleNamespace(cleaning=EVERYTHING, min_chars=20, language="en")
    cleaner = Cleaner.of(recipe, tmp_path)
    again = pickle.loads(pickle.dumps(cleaner))
    assert again("too short") is cleaner("too short") is None
    assert again.report() == cleaner.report()


def test_digests() -> None:
    assert document_digest("é") == document_digest_of("é".encode())
    assert len(document_digest("")) == 16
