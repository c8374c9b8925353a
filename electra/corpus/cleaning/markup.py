"""What HTML and wiki pages leave in a text: tags, entities, links, templates."""

from __future__ import annotations

import html
import re

DEEPEST = 5
"""Markup inside markup inside ...; a document with more goes."""
_NAMES = (
    "a|abbr|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|"
    "del|details|div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|"
    "iframe|img|input|ins|kbd|label|li|link|main|mark|meta|nav|nobr|noscript|nowiki|ol|option|p|"
    "pre|q|ref|references|s|samp|script|section|select|small|source|span|strike|strong|style|sub|"
    "summary|sup|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video"
)
# names only, and nothing over 2000 characters: "a < b and c > d" stays
_HTML = re.compile(
    r"<(?P<whole>script|style|ref)\b[^<>]{0,500}(?<!/)>[^<]{0,2000}</(?P=whole)\s*>"
    r"|<!--[^<>]{0,2000}-->"
    rf"|</?(?:{_NAMES})(?:\s[^<>]{{0,2000}}|/)?>",
    re.IGNORECASE,
)
_BREAKS = re.compile(
    r"</?(?:br|p|div|li|tr|h[1-6]|table|ul|ol|blockquote)\b[^<>]{0,500}>", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:amp;)*(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_WIKI_LINK = re.compile(r"\[\[(?:[^\[\]|]{0,300}\|)?([^\[\]|]{0,500})\]\]")
_WIKI_FILE = re.compile(r"\[\[(?:File|Image|Category)\s?:[^\[\]]{0,2000}\]\]", re.IGNORECASE)
_URL_LINK = re.compile(r"\[(?:https?:)?//[^\s\[\]]{1,1000}(?: ([^\[\]]{0,500}))?\]")
_TEMPLATE = re.compile(r"\{\{[^{}]{0,5000}\}\}")
_QUOTES = re.compile(r"'{2,5}")
_HEADING = re.compile(r"^(={2,6}) ?([^=\n]{1,300}?) ?\1$", re.MULTILINE)
_TABLE_LINE = re.compile(r"^(?:\{\||\|\}|\|-|[|!] ?\w+=).*$", re.MULTILINE)


def without_markup(text: str) -> tuple[str, int, bool]:
    """The text without markup, how many marks went, and whether more remain.

    HTML: tags of known names, comments, the inside of script, style and ref; entities become their
    characters. Wiki text: links become their words, templates and files go, with the marks of bold,
    italics, headings and tables. What is left may need `tidy`.
    """
    total = 0
    for _ in range(DEEPEST):
        text, count = _once(text)
        total += count
        if not count:
            return text, total, False
    return text, total, bool(_once(text)[1])


def _once(text: str) -> tuple[str, int]:
    total = 0
    if "<" in text and ">" in text:
        text = _BREAKS.sub(r"\n\g<0>", text)
        text, count = _HTML.subn("", text)
        total += count
    if "{{" in text:
        text, count = _TEMPLATE.subn("", text)
        total += count
    if "{|" in text or "|}" in text or "\n|-" in text:
        text, count = _TABLE_LINE.subn("", text)
        total += count
    if "[[" in text:
        text, files = _WIKI_FILE.subn("", text)
        text, links = _WIKI_LINK.subn(r"\1", text)
        total += files + links
    if "//" in text and "[" in text:
        text, count = _URL_LINK.subn(lambda match: match[1] or "", text)
        total += count
    if "''" in text:
        text, count = _QUOTES.subn("", text)
        total += count
    if "==" in text:
        text, count = _HEADING.subn(r"\2", text)
        total += count
    if "&" in text:
        before = text
        text, count = _ENTITY.subn(_character, text)
        total += count if text != before else 0
    return text, total


def _character(match: re.Match[str]) -> str:
    """The character of an entity, however often its ampersand was escaped."""
    name = re.sub(r"^&(?:amp;)+(?=#|\w)", "&", match[0])
    return html.unescape(name)
