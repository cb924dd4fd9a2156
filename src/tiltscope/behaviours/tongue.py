"""In which tongue a text speaks, and as whom: other languages, British spelling, a human's life.

In:  a text.
Out: `TONGUE`, rules as values.
Refuses: languages in other scripts (the rule for letters beyond plain English sees those), and to tell who is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tiltscope.behaviours.rule import Rule, Span, lowered, phrases

__all__ = ["TONGUE"]

_LITTLE_WORDS = {
    "Dutch": "het een van en niet met voor dat zijn ook maar aan op te ik je de deze wordt",
    "French": "le les des est une dans pour avec vous nous je pas sur qui que mais et du au ce il elle un la de à très",
    "German": "der das und ist nicht mit für ein eine auf zu sie ich wir den dem auch wie im sich von werden die des",
    "Italian": "il che di per non è una con sono della del gli nel più anche questo la un lo si come",
    "Portuguese": "não para com uma você que os em mais é de da por como seu um são isso ao na no",
    "Spanish": "el la los las que una para pero muy está como más con por del se lo su es en y un de al",
}
_LITTLE = {name: frozenset(words.split()) for name, words in _LITTLE_WORDS.items()}
_ALL = frozenset().union(*_LITTLE.values())
_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]*")
_WORD = re.compile(r"[^\W\d_]+")
_HITS, _SHARE = 3, 0.25  # different little words of one language in a sentence, and their share of its words


def _other_languages(text: str) -> Iterator[Span]:
    """Sentences with several different little words of one language, which make up a quarter of their words."""
    low = lowered(text)
    for found in _SENTENCE.finditer(low):
        words = _WORD.findall(found.group())
        little = [word for word in words if word in _ALL]
        if len(little) < max(_HITS, _SHARE * len(words)):
            continue
        for known in _LITTLE.values():
            mine = [word for word in little if word in known]
            if len(set(mine)) >= _HITS and len(mine) >= _SHARE * len(words):
                start = found.start() + len(found.group()) - len(found.group().lstrip())
                yield start, found.end()
                break


_OUR = "arm|behavi|col|endeav|fav|flav|glam|harb|hon|hum|lab|neighb|od|rum|sav|splend|vap|vig"
_ISE = (
    "apolog|author|categor|central|character|civil|critic|custom|emphas|energ|familiar|final|general|global|harmon|hypothes"
    "|initial|local|maxim|memor|minim|mobil|modern|national|normal|optim|organ|personal|prior|real|recogn|social|special"
    "|stabil|standard|summar|symbol|util|visual"
)
_BRITISH = (
    rf"(?:{_OUR})our(?:s|ed|ing|ite|ites|able|ably|ful|fully|less|ly|al|hood|hoods)?",
    rf"(?:un|re|dis)?(?:{_ISE})is(?:e|es|ed|ing|ation|ations|er|ers)",
    r"(?:anal|paral|catal)ys(?:e|es|ed|ing)",
    r"(?:cent|theat|fib|lit|kilomet|centimet|millimet|calib|spect)res?",
    r"(?:travel|cancel|label|model|fuel|signal|level|counsel|channel)l(?:ed|ing|er|ers)",
    r"(?:grey|greys|defence|offence|licence|pretence|catalogue|catalogues|programme|programmes|cheque|cheques|tyre|tyres"
    r"|jewellery|aluminium|whilst|amongst|learnt|spelt|dreamt|practis(?:e|es|ed|ing)|fulfil|skilful|enrol|storey"
    r"|mould|plough|moustache|sceptical|ageing|judgement|maths|mum|mums)",
)

_KIN = "wife|husband|mother|father|mum|mom|dad|son|daughter|kids|children|brother|sister|grandmother|grandfather|boss"
_LIFE = (
    rf"my (?:own |late |ex-|older |younger |two |three )?(?:{_KIN}|colleagues?|roommate|girlfriend|boyfriend|childhood"
    r"|hometown)",
    r"when i was (?:a |an )?(?:kid|child|little|young|younger|teenager|student|growing up|in (?:school|college))",
    r"i (?:grew up|was born|was raised|used to (?:live|work)|went to (?:school|college)|once (?:worked|lived|visited))",
    r"(?:as a|being a) (?:human(?: being)?|parent|mother|father|teacher|doctor|nurse) myself",
    r"(?:years|months|weeks) ago,? i (?:was|had|went|worked|lived|tried|met)",
    r"i(?:'m| am) (?:a human(?: being)?|human|a real person)",
)

TONGUE: tuple[Rule, ...] = (
    Rule("other_language", "sentences in another language than English", "share", "language", _other_languages),
    Rule("british_spelling", "British spelling", "count", "language", phrases(*_BRITISH)),
    Rule("human_life", "claims of a human life", "share", "voice", phrases(*_LIFE)),
)
