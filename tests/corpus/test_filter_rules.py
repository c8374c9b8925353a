"""Each rule: a document at its threshold that stays, and one just beyond that goes."""

import pytest

from electra.config.cleaning import CleaningSettings
from electra.corpus.cleaning.cleaner import Cleaner
from electra.corpus.cleaning.gopher import quality_reason, repetition_reason
from electra.corpus.cleaning.symbols import symbols_reason
from electra.corpus.cleaning.web import c4_lines, fineweb_reason
from electra.corpus.cleaning.writing import has_spaces


def words(count: int, start: int = 0) -> str:
    """Different words of seven letters."""
    names = [
        f"w{chr(97 + i // 676)}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}xyz" for i in range(999)
    ]
    return " ".join(names[start : start + count])


@pytest.mark.parametrize(
    ("stays", "goes", "reason"),
    [
        (words(100) + "#" * 10, words(100) + "#" * 11, "symbols: hashes"),
        (
            words(100) + "... " * 0,
            words(96) + " w...w...w... w… a...... b... c...... d...... e",
            "",
        ),
        (words(80) + " 1" * 20, words(79) + " 1" * 21, "symbols: words without letters"),
        (words(80) + " --" * 20, words(79) + " $5" * 21, "symbols: words without letters"),
    ],
)
def test_symbols_to_words(stays: str, goes: str, reason: str) -> None:
    assert symbols_reason(stays, spaces=True) is None
    assert symbols_reason(goes, spaces=True) == (reason or "symbols: ellipses")


def test_symbols_of_lines() -> None:
    def document(marked: int, plain: int, before: str = "", after: str = "") -> str:
        lines = [f"{before}{words(9, i)}{after}" for i in range(marked)]
        return "\n".join(lines + [words(9, 100 + i) for i in range(plain)])

    for mark in ("- ", "• ", "* "):
        assert symbols_reason(document(9, 1, before=mark), spaces=True) is None
        found = symbols_reason(document(10, 0, before=mark), spaces=True)
        assert found == "symbols: lines that begin with a bullet"
    for mark in ("...", "…"):
        assert symbols_reason(document(3, 7, after=mark), spaces=True) is None
        found = symbols_reason(document(4, 6, after=mark), spaces=True)
        assert found == "symbols: lines that end in an ellipsis"


def test_symbols_leave_short_texts_and_single_lines() -> None:
    assert symbols_reason("# # # # Title ...", spaces=True) is None  # under fifty words
    assert symbols_reason(words(48) + " # # # # # # #", spaces=True) == "symbols: hashes"
    assert symbols_reason(words(43) + " # # # # # #", spaces=True) is None
    assert symbols_reason(words(60) + "...", spaces=True) is None
    assert symbols_reason("三" * 90 + "#" * 30, spaces=False) is None


def test_spaces_are_those_of_the_text() -> None:
    assert not has_spaces("这是中文")
    assert not has_spaces("“……”好，！？（……）——……")  # more marks than characters
    assert not has_spaces("用 TensorFlow 和 PyTorch 学习深度神经网络的方法")
    assert not has_spaces("這是一個沒有空格的句子")
    assert not has_spaces("def main(): return 0\n" * 9 + "这是中文。" * 200)
    assert has_spaces("this is English")
    assert has_spaces("They call it “the Way” (道 or 道路), and say no more… " * 9)
    assert has_spaces("…… 1234")
    assert has_spaces("Grüße aus dem schönen Köln " * 5)
    assert has_spaces("안녕하세요 여러분 반갑습니다")
    assert not has_spaces("这是一个没有空格的句子 ABC 后面还有汉字")
    assert not has_spaces("ประเทศไทยมีอากาศร้อน")


def test_quality() -> None:
    def reason(text: str, language: str = "en") -> str | None:
        return quality_reason(text, spaces=True, language=language)

    assert reason("the of " + words(48)) is None
    assert reason("the of " + words(47)) == "quality: under 50 words"
    assert reason("the of " + words(49) + "," * 99 + " 7") is None  # punctuation is no word
    assert reason("the and " + "abc " * 99_998) is None
    assert reason("the and " + "abc " * 99_999) == "quality: over 100,000 words"
    assert reason("the and " + "abc " * 98) is None  # a mean of 3
    assert reason("the of " + "abc " * 98) == "quality: short words"
    assert reason("of to " + "abcdefghij " * 82 + "abcdefghijklmnopqr " * 2) is None  # 10
    assert (
        reason("of to " + "abcdefghij " * 82 + "abcdefghijklmnopqrs " * 2) == "quality: long words"
    )
    assert reason("The THE " + words(60)) == "quality: no stop words"  # one word, twice
    assert reason("The Of " + words(60)) is None
    assert reason(words(60), language="other") is None  # no list


def test_quality_of_chinese() -> None:
    text = "的了" + "天地玄黄宇宙洪荒" * 13
    assert quality_reason(text[:100], spaces=False, language="zh") is None
    assert quality_reason(text[:99], spaces=False, language="zh") == "quality: under 50 words"
    assert quality_reason(text[2:], spaces=False, language="zh") == "quality: no stop words"


DIALOGUE = """“你昨天到哪里去了？我找了你整整一个下午……”她低声问道。
“我去河边走了走……没有想到天黑得这么早。”他慢慢地回答。
“可是你说过要来的……大家都在等你一个人吃饭。”
“对不起……我真的忘记了，下次不会再这样。”
她没有再说话，只是望着窗外的雨，好像有许多心事。
“你在想什么呢？”他又问，“是不是还在生气？”
“不是……我只是想起小时候和父亲一起钓鱼的日子了。”
雨渐渐停了，街上的灯一盏一盏地亮起来，他们都沉默了很久。"""
TRADITIONAL = """她沒有再說話，只是望著窗外的雨，好像有許多心事。
“我去河邊走了走……沒有想到天黑得這麼早。”他慢慢地回答。
雨漸漸停了，街上的燈一盞一盞地亮起來，他們都沉默了很久。
“你在想什麼呢？”他又問，“是不是還在生我的氣？”
第二天早上他們一起到車站去，送那位從南方來的老朋友回家。"""


@pytest.mark.parametrize("language", ["zh", "zh-hant", "en", "other"])
@pytest.mark.parametrize("text", [DIALOGUE, TRADITIONAL])
def test_chinese_stays_whatever_the_language_asked_for(text: str, language: str) -> None:
    cleaner = Cleaner(language=language)
    assert cleaner(text) == text
    rules = CleaningSettings(c4=True, gopher=True, repetition=True, fineweb=True)
    cleaner = Cleaner(rules, language=language)
    assert cleaner(text) == text, cleaner.removed


@pytest.mark.parametrize("language", ["zh", "zh-hant", "en", "other"])
def test_english_is_judged_by_words_whatever_the_language_asked_for(language: str) -> None:
    # by ten characters it would repeat itself
    subjects = ["farmer", "teacher", "soldier", "painter", "doctor", "singer", "sailor", "baker"]
    lines = [
        f"At {hour} the {who} walked to the {place} with {number} friends of {number} others."
        for hour, who, place, number in zip(
            ["dawn", "noon", "dusk", "night", "once", "last", "ease", "home"],
            subjects,
            ["river", "market", "castle", "harbour", "hospital", "theatre", "ship", "mill"],
            ["two", "three", "four", "five", "six", "seven", "eight", "nine"],
            strict=True,
        )
    ]
    text = "\n".join(lines)
    rules = CleaningSettings(gopher=True, repetition=True)
    outcomes = [Cleaner(rules, language=name)(text) for name in ("other", language)]
    assert outcomes[0] == outcomes[1]
    words = DIALOGUE.replace("的", "").replace("了", "")
    assert quality_reason(text, spaces=True, language="en") is None
    no_list = quality_reason(words, spaces=False, language="en")
    assert no_list is None  # English stop words say nothing about it


def test_stop_words_of_traditional_chinese() -> None:
    text = "天地玄黃宇宙洪荒" * 13
    for language in ("zh", "zh-hant"):
        found = quality_reason(text, spaces=False, language=language)
        assert found == "quality: no stop words"


def repetition(text: str, raw: str | None = None, spaces: bool = True) -> str | None:
    return repetition_reason(text, raw=text if raw is None else raw, spaces=spaces)


def test_repeated_lines_and_paragraphs() -> None:
    lines = [words(3, 3 * i) for i in range(7)]
    assert repetition("\n".join([*lines, "a", "a", "a", "a"])) is None  # 3 of 11
    assert (
        repetition("\n".join([*lines, "a", "a", "a", "a", "a"])) == "repetition: lines"
    )  # 4 of 12
    long = words(8)
    assert repetition("\n".join([long, *(words(8, 8 * i) for i in range(4)), "b"])) is None
    again = repetition("\n".join([long, long, words(8, 100), "b", "c"]))
    assert again == "repetition: characters of lines"
    raw = "\n\n".join(["x y", *(f"{line}\nx" for line in lines), "x y", "x y"])
    assert repetition("one\ntwo", raw) is None  # 2 of 10
    raw = "\n\n".join(["x", *lines, "x", "x", "x", "x"])
    assert repetition("one\ntwo", raw) == "repetition: paragraphs"  # 4 of 12
    # blank lines may hold spaces, and lines may end in other ways
    assert repetition("one\ntwo", raw.replace("\n\n", "\r\n \r\n")) == "repetition: paragraphs"


@pytest.mark.parametrize(("n", "most"), [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_most_frequent_ngram(n: int, most: float) -> None:
    gram = " ".join("abcd"[:n])  # apart by other words, so that longer ones do not repeat
    times, others = 20, words(400).split()

    def document(count: int) -> str:
        rest = others[: count + times]
        return " ".join(f"{gram} {w}" for w in rest[:times]) + " " + " ".join(rest[times:])

    for count in range(300):
        text = document(count)
        share = times * len(gram) / len(text)
        shorter = [20 * (2 * k - 1) / len(text) > {2: 0.20, 3: 0.18}[k] for k in range(2, n)]
        expected = share > most or any(shorter)
        assert (repetition(text) == "repetition: most frequent n-gram") == expected, count


@pytest.mark.parametrize(("n", "most"), [(5, 0.15), (6, 0.14), (8, 0.12), (10, 0.10)])
def test_repeated_ngrams(n: int, most: float) -> None:
    again = words(n)  # seven times, so that a part of it is not too frequent already

    def reason(total: int) -> str | None:
        rest = words(total - 7 * n, 50).split()
        parts = [f"{' '.join(rest[i::7])} {again}" for i in range(7)]
        return repetition(" ".join(parts))

    total = round(6 * n * 7 / most / 8)  # words of which six occurrences are just that share
    assert reason(total + 2) is None
    assert reason(total - 2) == "repetition: n-grams"


def test_repetition_of_short_and_of_chinese_texts() -> None:
    assert repetition("yes yes yes yes yes yes") is None
    assert repetition("哈" * 200, spaces=False) == "repetition: most frequent n-gram"
    text = "".join(chr(0x4E00 + i) for i in range(120))
    assert repetition(text, spaces=False) is None
    assert repetition(text + text[:40], spaces=False) == "repetition: n-grams"
    assert repetition(text + text[:9], spaces=False) is None


def test_c4() -> None:
    good = ["The first line ends well.", "A second one does too!", "Does the third one?"]
    good += ['He said "so it does."', "And this is five."]

    def clean(*lines: str) -> tuple[str, str | None, int]:
        return c4_lines("\n".join(lines), spaces=True)

    whole = "\n".join(good)
    assert clean(*good) == (whole, None, 0)
    assert clean(*good[:4])[1] == "c4: under 5 sentences"
    assert clean(*good[:4], "Four more. And five in one.")[1] is None
    bad = [
        "Two words.",
        "No full stop here",
        "It goes on like this...",
        "You need JavaScript for it.",
    ]
    bad += ["We use cookies on this site.", f"Then a {'w' * 1001} came.", "And also so…"]
    for line in bad:
        assert clean(*good, line) == (whole, None, 1), line
    assert clean(*good, f"Then a {'w' * 1000} came.")[2] == 0
    assert clean(*good, "Lorem ipsum dolor sit amet.")[1] == "c4: lorem ipsum"
    assert clean(*good, "if (x) { return y; }", "And then {x} came.")[1] == "c4: curly bracket"
    assert clean(*good, "if (x) { return y }") == (whole, None, 1)  # gone before it is looked at
    assert clean(*good, "It was[1] so [citation needed].")[0] == whole + "\nIt was so ."


def test_c4_of_chinese() -> None:
    text = "今天下雨。我们在家！你呢？他也在。好吧。\n目录"
    assert c4_lines(text, spaces=False) == ("今天下雨。我们在家！你呢？他也在。好吧。", None, 1)


def test_fineweb() -> None:
    def reason(*lines: str) -> str | None:
        return fineweb_reason("\n".join(lines), spaces=True)

    def plain(count: int, start: int = 0) -> list[str]:
        return [f"{words(5, 5 * (start + i))}" for i in range(count)]

    stop = [line + "." for line in plain(3, 50)]
    assert reason(*stop, *plain(22)) is None  # 3 of 25 is 12 %
    assert reason(*stop, *plain(23)) == "fineweb: lines without punctuation"
    line, edge = words(5) + ".", "a" * 29 + "."
    short = [f"{i:02d}{edge[2:]}" for i in range(67)]
    assert reason(*(x + "." for x in plain(33)), *short) is None
    assert reason(*(x + "." for x in plain(32)), *short) == "fineweb: short lines"
    assert reason(*(x + "." for x in plain(33)), *(f"{x[:-1]}b." for x in short[:67])) is None
    several = [x + "." for x in plain(9, 1)]
    assert reason(line, *several) is None
    assert reason(line, line, *several[:8]) is None  # a tenth of ten alike
    assert reason(line, line, *several[:7]) == "fineweb: repeated lines"
