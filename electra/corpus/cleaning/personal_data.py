"""E-mail and public IP addresses become addresses that nobody has.

As FineWeb's PII step (Penedo et al. 2024; `PIIFormatter` of datatrove 0.10), but with one mask a
kind: datatrove takes several in turn, so that the text depends on what came before. IPv6, which it
leaves, is masked too, and version numbers of five parts and more stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

EMAIL = "email@example.com"
IPV4 = "22.214.171.124"
"""The first of datatrove's, which answered no ping when that list was made."""
IPV6 = "2001:db8::1"
"""Of the range kept for documentation (RFC 3849)."""
_LONGEST_LOCAL = 64
_NO_FIRST = "!#$%&'*+/=?^_`{|}~.-"
_LOCAL = re.compile(rf"[A-Za-z0-9{re.escape(_NO_FIRST)}]+$")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,10}[A-Za-z]{2,63}(?![A-Za-z0-9@\-])"
)
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# the first character before what stands before it, for then `re` skips to it fast
_IPV4 = re.compile(
    rf"[0-9](?<![\w.][0-9])(?:(?<=[0-9])[0-9]{{0,2}})(?:\.{_BYTE}){{3}}(?![\w]|\.[0-9])"
)
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?<!:)(?![\w:]|\.[0-9])")
_IPV6_OPEN = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{1,4}){0,6}::(?![\w:])")


def mask_personal_data(text: str) -> tuple[str, Counter[str]]:
    """The text with masks for addresses, and how many of each kind; masks themselves do not count.

    Private, local and reserved addresses stay, as they name nobody.
    """
    masked: Counter[str] = Counter()
    if "@" in text:
        text = _without_emails(text, masked)

    def ip(match: re.Match[str]) -> str:
        mask = IPV6 if ":" in match[0] else IPV4
        try:
            public = ipaddress.ip_address(match[0]).is_global
        except ValueError:
            public = False
        if not public or match[0] == mask:
            return match[0]
        masked["IP addresses masked"] += 1
        return mask

    text = _IPV4.sub(ip, text)
    if ":" in text:
        text = _IPV6_OPEN.sub(ip, _IPV6.sub(ip, text))
    return text, masked


def _without_emails(text: str, masked: Counter[str]) -> str:
    """From one @ to the next, so that a long run without spaces takes no longer."""
    parts: list[str] = []
    done = free = 0  # text is copied up to `done`, and no address begins before `free`
    at = text.find("@")
    while at >= 0:
        run = _LOCAL.search(text, max(free, at - _LONGEST_LOCAL - 1), at)
        domain = _DOMAIN.match(text, at + 1)
        if run and domain and len(run[0]) <= _LONGEST_LOCAL:
            local = run[0].lstrip(_NO_FIRST)
            if local:
                start, free = at - len(local), domain.end()
                if text[start:free] != EMAIL:
                    parts += [text[done:start], EMAIL]
                    done = free
                    masked["e-mail addresses masked"] += 1
        at = text.find("@", max(at + 1, free))
    return "".join([*parts, text[done:]]) if parts else text
