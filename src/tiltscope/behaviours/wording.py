"""Wording by rule: how a text argues and what it is about, after what it claims and who speaks (English).

In:  a text.
Out: `WORDING`, rules as values: claims, voice, rhetoric, sympathy, caution and topic.
Refuses: irony, other languages, and meaning beyond the phrase.
"""

from __future__ import annotations

from tiltscope.behaviours.claims import CLAIMS
from tiltscope.behaviours.rule import Rule, phrases, prose
from tiltscope.behaviours.tongue import TONGUE
from tiltscope.behaviours.voice import VOICE

__all__ = ["WORDING"]

_CAUTION = (
    r"(?:consult|see|talk to|speak (?:to|with)|contact|seek|ask|check with)(?: with)?(?: an?| your"
    r"| the| some)?(?: \w+){0,3}"
    r" (?:doctor|physician|professional|pharmacist|therapist|lawyer|attorney|healthcare provider"
    r"|provider|advis[oe]r|specialist|counselor|help|advice|attention)",
    r"(?:this is|i am|i'm) not (?:a |an )?(?:medical|legal|financial|substitute|doctor|lawyer|licensed"
    r"|qualified)[^.\n]{0,40}",
    r"not (?:be )?(?:taken as|intended as|a substitute for|considered) [^.\n]{0,40}(?:advice|care)",
)
_IMPERATIVE = (
    r"^[ \t]*(?:(?:\d{1,3}[.)]|[-*+•]|#{1,6})[ \t]+)?(?:\*\*)?(?:Add|Adjust|Apply|Avoid|Bake|Begin"
    r"|Boil|Bring|Check|Choose|Clean|Click"
    r"|Combine|Consider|Cook|Create|Cut|Define|Determine|Ensure|Enter|Find|Follow|Gather|Get|Give|Go"
    r"|Heat|Identify|Install|Keep|Let"
    r"|Look|Make|Mix|Move|Open|Place|Pour|Practice|Prepare|Press|Put|Read|Remember|Remove|Repeat|Run"
    r"|Save|Select|Set|Start|Stir|Stay"
    r"|Take|Talk|Test|Try|Turn|Update|Use|Visit|Wait|Wash|Write)\b(?!['’]s\b|:\s*$)"
)
_PROFANITY = (
    r"fuck\w*",
    r"shit(?:ty|s|ting|head)?",
    r"bullshit",
    r"bitch(?:es|y)?",
    r"ass(?:hole|holes|es)?",
    r"bastards?",
    r"damn(?:ed|it)?",
    r"goddamn",
    r"cunts?",
    r"dick(?:head|s)?",
    r"pussy",
    r"crap(?:py)?",
    r"piss(?:ed)?",
    r"whores?",
    r"sluts?",
    r"motherfuck\w*",
)

WORDING: tuple[Rule, ...] = (
    CLAIMS
    + VOICE
    + TONGUE
    + (
        Rule(
            "example",
            "examples",
            "count",
            "rhetoric",
            phrases("for example", "for instance", r"e\.g\.", "such as", "an example of", "to illustrate", "imagine"),
        ),
        Rule(
            "contrast",
            "contrast words",
            "count",
            "rhetoric",
            phrases(
                "however",
                "but",
                "although",
                "though",
                "nevertheless",
                "on the other hand",
                "in contrast",
                "whereas",
                "despite",
                "yet",
                "instead",
                "conversely",
            ),
        ),
        Rule(
            "comparison",
            "comparisons",
            "count",
            "rhetoric",
            phrases(
                "more than",
                "less than",
                r"(?:more|less) \w+ than",
                r"(?:better|worse|bigger|smaller|larger|faster|slower|higher|lower|older|younger|easier|harder"
                r"|cheaper|greater|stronger|longer|shorter) than",
                "compared (?:to|with)",
                "in comparison",
                "similar(?:ly)? to",
                r"as \w+ as",
                "unlike",
            ),
        ),
        Rule(
            "negation",
            "negations",
            "count",
            "rhetoric",
            phrases(
                "not",
                "no",
                "none",
                "nothing",
                "nobody",
                "nowhere",
                "neither",
                "nor",
                "never",
                "without",
                "cannot",
                r"(?:do|does|did|is|are|was|were|have|has|had|ca|wo|would|could|should|must|need|ai)n't",
            ),
        ),
        Rule("imperative", "step-by-step instructions", "count", "rhetoric", prose(_IMPERATIVE)),
        Rule(
            "cause",
            "reasons and consequences",
            "count",
            "rhetoric",
            phrases(
                "because",
                "therefore",
                "thus",
                "hence",
                "as a result",
                "consequently",
                "due to",
                "since",
                "so that",
                "this means",
            ),
        ),
        Rule(
            "sequence",
            "ordering words",
            "count",
            "rhetoric",
            phrases(
                "first(?:ly)?",
                "second(?:ly)?",
                "third(?:ly)?",
                "next",
                "then",
                "finally",
                "lastly",
                "afterwards?",
                "meanwhile",
            ),
        ),
        Rule(
            "importance",
            "stressing importance",
            "count",
            "rhetoric",
            phrases(
                "important(?:ly)?",
                "crucial(?:ly)?",
                "essential(?:ly)?",
                "vital",
                "key",
                "significant(?:ly)?",
                "remember that",
                "keep in mind",
                "note that",
            ),
        ),
        Rule(
            "feelings",
            "words of sympathy",
            "share",
            "voice",
            phrases(
                "i understand (?:that|how|your|why|you)",
                "that (?:sounds|must be|must feel) \\w+",
                "i hear you",
                "i can (?:only )?imagine",
                "sorry to hear",
                "it's okay to",
                "it's (?:understandable|normal)",
                "you(?:'re| are) not alone",
                "my heart goes out",
            ),
        ),
        Rule("caution", "advice to see a professional", "share", "caution", phrases(*_CAUTION)),
        Rule("profanity", "profanity", "share", "topic", phrases(*_PROFANITY)),
        Rule("goblin", "goblins", "share", "topic", phrases(r"goblins?", r"goblin[- ]\w+", r"hobgoblins?")),
        Rule(
            "story_opening",
            "story-telling opening",
            "share",
            "topic",
            phrases(
                "once upon a time",
                "in a (?:land|kingdom|world|village|galaxy) (?:far|where|called)",
                "there once was",
                "long ago",
            ),
        ),
    )
)
