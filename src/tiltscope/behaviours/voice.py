"""Who speaks and how a text opens and closes, by rule (English).

In:  a text.
Out: `VOICE`, rules as values: persons, contractions, speaking as an AI, apology, thanks, openings and closings.
Refuses: irony, other languages, and meaning beyond the phrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tiltscope.behaviours.rule import Rule, Span, phrases, prose, without_code

__all__ = ["VOICE"]

_CONTRACTION = (
    r"(?:do|does|did|is|are|was|were|have|has|had|ca|wo|would|could|should|must|need|ai|might|sha)n't",
    r"(?:i'(?:m|ve|ll|d)|you'(?:re|ve|ll|d)|we'(?:re|ve|ll|d)|they'(?:re|ve|ll|d)|(?:he|she)'(?:s|ll|d)|it'(?:s|ll|d)"
    r"|that'(?:s|ll|d)|there'(?:s|ll|d)|what's|who's|where's|how's|here's|let's|y'all|who'(?:ve|ll|d))",
)
_CONCLUSION = (
    r"in conclusion",
    r"in summary",
    r"to sum up",
    r"to summari[sz]e",
    r"overall(?=,)",
    r"ultimately(?=,)",
    r"in short(?=,)",
    r"all in all",
    r"in closing",
    r"to conclude",
    r"in the end(?=,)",
    r"tl;?dr",
)
_CLOSING = (
    r"(?:please )?let me know",
    r"(?:please )?feel free to",
    r"i hope (?:this|that|these|it|you)",
    r"hope (?:this|that) helps",
    r"is there anything (?:else|specific)",
    r"would you like (?:me|to|more|some|any)",
    r"do you (?:want|need) me to",
    r"(?:shall|should|could|may|can) i (?:also )?(?:help|assist|explain|show|tell|give|add|write|go|provide|elaborate"
    r"|expand)",
    r"if you (?:have any|need any|need more|need further|would like|want) (?:\w+ )?(?:questions|help"
    r"|assistance|information|more|me|details|to know)",
    r"don't hesitate to",
    r"happy to help",
    r"anything else i can",
)

_ASKED = re.compile(r"[?？][\s\"'”’»)\]*_☀-➿\U0001f300-\U0001faff]*\Z")


def _closing_question(text: str) -> Iterator[Span]:
    """A question with which an answer ends that has said something before."""
    plain = without_code(text)
    found = _ASKED.search(plain)
    if not found:
        return
    start = max(plain.rfind(mark, 0, found.start()) for mark in ".!?…:\n") + 1
    if plain[:start].strip():
        start += len(plain[start:]) - len(plain[start:].lstrip())
        yield start, found.start() + 1


VOICE: tuple[Rule, ...] = (
    Rule("contraction", "contractions", "count", "voice", phrases(*_CONTRACTION)),
    Rule(
        "first_person",
        "first person singular",
        "count",
        "voice",
        prose(r"\bI(?:['’](?:m|ve|ll|d))?\b(?![.)])|\b(?:[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b"),
    ),
    Rule(
        "we",
        "first person plural",
        "count",
        "voice",
        phrases("we(?:'re|'ve|'ll|'d)?", "us", "our", "ours", "ourselves", "let's"),
    ),
    Rule(
        "you",
        "second person",
        "count",
        "voice",
        phrases("you(?:'re|'ve|'ll|'d)?", "your", "yours", "yourself", "yourselves"),
    ),
    Rule(
        "as_an_ai",
        "speaking as an AI",
        "share",
        "voice",
        phrases(
            r"as an? (?:ai|artificial intelligence|(?:large )?language model|virtual assistant|chatbot|assistant)",
            r"i(?:'m| am) (?:just |only )?(?:an? )?(?:ai|(?:large )?language model|artificial intelligence"
            r"|virtual assistant|chatbot|computer program)",
        ),
    ),
    Rule(
        "apology",
        "apology",
        "share",
        "voice",
        phrases(
            r"i(?:'m| am) (?:so |very |really |truly |terribly )?sorry",
            r"sorry(?=[,.!]| (?:but|for|about|to hear|that|i))",
            r"(?:i|my|sincere) (?:sincerely )?apolog(?:i[sz]e|ies)",
            r"apologies",
            r"please forgive",
        ),
    ),
    Rule(
        "thanks",
        "thanks",
        "share",
        "voice",
        phrases(
            "thank you",
            "thanks(?! to)",
            "i appreciate (?:it|you|that|your)",
            "much appreciated",
            "you(?:'re| are) welcome",
            "many thanks",
        ),
    ),
    Rule(
        "opening_sure",
        "opening with Sure or Certainly",
        "share",
        "opening",
        phrases(
            r"\A[\s*\"“]*(?:sure|certainly|of course|absolutely|definitely|okay|ok|gladly|i'd be happy to"
            r"|i would be happy to|i'd love to|no problem)(?=[!,.: ])"
        ),
    ),
    Rule(
        "opening_here",
        "opening with Here is",
        "share",
        "opening",
        phrases(r"\A[\s*]*(?:(?:sure|certainly|of course|absolutely)[!,.]? )?(?:here(?:'s| is| are)|below (?:is|are))"),
    ),
    Rule("closing_offer", "offer of more help", "share", "closing", phrases(*_CLOSING)),
    Rule("closing_question", "question at the end", "share", "closing", _closing_question),
    Rule("conclusion", "concluding phrase", "share", "closing", phrases(*_CONCLUSION, starts_clause=True)),
)
