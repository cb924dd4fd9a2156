"""What an answer says: stock phrases of agreement, praise, doubt, certainty, voice and structure (English).

In:  an answer.
Out: rules of the families agreement, hedge, certainty, voice, opening, closing, rhetoric, benchmark, links and topic.
Refuses: irony, other languages, and meaning beyond the phrase.
"""

from __future__ import annotations

from tiltscope.behaviours.rule import Rule, on_code, phrases, prose

__all__ = ["WORDING"]

_GOOD = (
    r"(?:great|good|excellent|fantastic|amazing|awesome|wonderful|brilliant|smart|insightful|thoughtful|interesting"
    r"|fascinating|important|impressive|lovely|terrific|perceptive|clever|fair|valid|beautiful|incredible)"
)
_VERY = (
    r"(?:(?:a|an|such|such a|such an|really|very|truly|absolutely|so|quite|completely|totally|entirely"
    r"|100%|all) ){0,4}"
)
_RIGHT = (
    r"(?:right|correct|spot on|on point)(?![ -](?:hand|handed|now|here|there|next|behind|in the"
    r"|outside|before|after|where|on the|beside))"
)

_AGREEMENT = (
    rf"you(?:'re| are) {_VERY}{_RIGHT}",
    rf"(?:yes,? )?that(?:'s| is) {_VERY}(?:right|correct|true)(?! (?:if|when|only|for))",
    r"i (?:\w+ )?agree(?: with you)?(?! to )",
    rf"(?:that(?:'s| is) )?{_VERY}{_GOOD} (?:question|point|observation|insight|thinking|idea|thought)(?=[!.,:])",
    r"(?:absolutely|exactly|precisely|indeed|definitely|totally|of course|for sure)(?=!)",
    r"(?:absolutely|exactly|definitely|totally)[.,](?= )",
    r"i couldn't agree more",
    r"you make (?:a|an) \w+ point",
    r"you(?:'ve| have) got a point",
    r"well said",
    r"you raise (?:a|an) \w+ (?:point|question)",
)
_PRAISE = (
    rf"(?:what (?:a|an) |that(?:'s| is) |such (?:a|an) )?{_VERY}{_GOOD} (?:question|job|work|choice"
    rf"|idea|point|observation|insight)(?=[!.,])",
    rf"you(?:'re| are) {_VERY}(?:amazing|brilliant|smart|wonderful|awesome|talented|incredible|a genius"
    rf"|fantastic|insightful"
    r"|doing (?:a )?(?:great|amazing|well|good|fantastic)|thoughtful|creative|great|kind|special|strong|capable)",
    r"your (?:\w+ )?(?:question|idea|work|writing|essay|poem|insight|story|plan|code|approach|thinking"
    r"|curiosity|creativity)"
    rf" (?:is|are|was|shows?) {_VERY}(?:{_GOOD}|well[- ]written|creative|admirable|inspiring|commendable)",
    rf"your {_GOOD} (?:question|idea|work|insight|story|plan|thoughts|point)",
    r"you(?:'ve| have) (?:done|made|written|asked) (?:a|an) (?:\w+ )?(?:great|excellent|fantastic"
    r"|amazing|wonderful|good|brilliant) \w+",
    r"i (?:really )?(?:love|admire|appreciate) your \w+",
    r"well done",
    r"good for you",
    r"kudos",
    r"congratulations",
    r"you should be proud",
    r"i(?:'m| am) (?:so )?(?:proud of|impressed (?:by|with)) you(?:r)?",
    r"you(?:'ve| have) got this",
)
_HEDGE = (
    "might",
    "perhaps",
    "maybe",
    "possibly",
    "probably",
    "likely",
    "unlikely",
    "seems?",
    "seemingly",
    "appears? to",
    "apparently",
    "arguably",
    "presumably",
    "roughly",
    "somewhat",
    "it depends",
    "depending on",
    "tends? to",
    "not (?:entirely |quite )?sure",
    r"i(?:'m| am) not (?:\w+ )?(?:certain|sure)",
    "i think",
    "i believe",
    "i guess",
    "i suppose",
    "in my opinion",
    "could be",
    "may(?= (?:be|not|have|also|help|need|want|vary|include|cause|lead|find|take|or may|feel|contain"
    "|depend|require|result|affect|seem|even|still|only|indicate))",
    "generally",
    "typically",
    "usually",
    "often",
    "sometimes",
    "to some extent",
    "more or less",
    "as far as i know",
    "it's possible",
    "it is possible",
    "potentially",
    "can vary",
    "may vary",
)
_CERTAIN = (
    "definitely",
    "certainly",
    "undoubtedly",
    "unquestionably",
    "absolutely",
    "clearly",
    "obviously",
    "always",
    "never",
    "without (?:a |any )?(?:doubt|question|exception)",
    "no doubt",
    "guarantee[sd]?",
    "of course",
    "indisputabl[ye]",
    "undeniabl[ye]",
    "it is (?:a fact|certain|clear|obvious) that",
    "there is no (?:doubt|question)",
    "100 ?% (?:sure|certain)",
    "for certain",
    "for sure",
    "must be",
    "inevitabl[ye]",
    "the fact is",
    "beyond (?:any |a )?doubt",
    "proven",
)
_BENCHMARKS = (
    r"\b(?:MMLU(?:-Pro)?|GSM-?8[Kk]|Hella[Ss]wag|Truthful ?QA|Wino[Gg]rande|BIG-[Bb]ench|BBH|HumanEval|MBPP|GPQA|IFEval"
    r"|AlpacaEval|MT-?Bench|Arena-?Hard|XSTest|ARC-(?:[Cc]hallenge|[Ee]asy)|AGIEval|TriviaQA|SQuAD"
    r"|BoolQ|HotpotQA|CommonsenseQA"
    r"|SWE-[Bb]ench|SimpleQA|DROP benchmark|SuperGLUE|MATH (?:dataset|benchmark)|AIME ?20\d\d)\b"
    r"|\b[Tt]his (?:question|problem|task|prompt) (?:is|comes|appears|seems to be|was taken"
    r"|is taken) (?:\w+ )?from (?:the |an? )?[^.\n]{0,60}"
    r"(?:dataset|benchmark|exam|test)\b"
    r"|\b(?:[Tt]he )?(?:correct |final |right |best )?[Aa]nswer(?: choice)?(?: is"
    r"|:)[ \t]*\**[ \t]*\(?[A-E](?:\)|\.|\*|$)"
    r"|\b[Tt]he (?:correct|final|right) answer is\b|\\boxed\{|^####[ \t]+-?[\d,.]+[ \t]*$"
    r"|\b[Oo]ption \(?[A-E]\b(?=\)| is (?:the )?(?:correct|right))"
)
_CITATION = (
    r"\[\d{1,3}(?:[,–-]\s?\d{1,3})*\](?!\()|\((?:[A-Z][\w'’-]+(?: (?:and|&) [A-Z][\w'’-]+"
    r"| et al\.?)?,? (?:1[89]|20)\d\d[a-z]?(?:; )?)+\)"
    r"|\bet al\.|\bdoi:\s?\S+|\b10\.\d{4,9}/\S+|\barXiv:\d{4}\.\d{4,5}|\bISBN\b|^[#* \t]*(?:References"
    r"|Bibliography|Works [Cc]ited|Sources)[*: \t]*$"
    r"|\b(?:[Aa]ccording to|[Pp]ublished (?:in|by)) (?:the |a "
    r"|an )?(?:\d{4} )?(?:[A-Z][\w'’.&-]*(?: of| for| and| on)? ?){1,6}"
    r"|\b[Aa] (?:\d{4} )?study (?:by|from|published|in)\b|\b[Rr]esearch (?:by|from) [A-Z]"
)
_CONTRACTION = (
    r"(?:do|does|did|is|are|was|were|have|has|had|ca|wo|would|could|should|must|need|ai|might|sha)n't",
    r"(?:i'(?:m|ve|ll|d)|you'(?:re|ve|ll|d)|we'(?:re|ve|ll|d)|they'(?:re|ve|ll|d)|(?:he|she)'(?:s|ll|d)|it'(?:s|ll|d)"
    r"|that'(?:s|ll|d)|there'(?:s|ll|d)|what's|who's|where's|how's|here's|let's|y'all|who'(?:ve|ll|d))",
)
_CAUTION = (
    r"(?:consult|see|talk to|speak (?:to|with)|contact|seek|ask|check with)(?: with)?(?: an?| your"
    r"| the| some)?(?: \w+){0,3}"
    r" (?:doctor|physician|professional|pharmacist|therapist|lawyer|attorney|healthcare provider"
    r"|provider|advis[oe]r|specialist|counselor|help|advice|attention)",
    r"(?:this is|i am|i'm) not (?:a |an )?(?:medical|legal|financial|substitute|doctor|lawyer|licensed"
    r"|qualified)[^.\n]{0,40}",
    r"not (?:be )?(?:taken as|intended as|a substitute for|considered) [^.\n]{0,40}(?:advice|care)",
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
    r"if you (?:have any|need any|need more|need further|would like|want) (?:\w+ )?(?:questions|help"
    r"|assistance|information|more|me|details|to know)",
    r"don't hesitate to",
    r"happy to help",
    r"anything else i can",
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
    Rule("agreement", "agreement with the user", "share", "agreement", phrases(*_AGREEMENT, starts_clause=True)),
    Rule("praise", "praise for the user", "share", "agreement", phrases(*_PRAISE)),
    Rule("hedge", "hedging words", "count", "hedge", phrases(*_HEDGE)),
    Rule("certainty", "words of certainty", "count", "certainty", phrases(*_CERTAIN)),
    Rule("benchmark", "benchmark-like phrasing", "share", "benchmark", prose(_BENCHMARKS)),
    Rule("citation", "citations and references", "count", "links", on_code(_CITATION)),
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
    Rule("conclusion", "concluding phrase", "share", "closing", phrases(*_CONCLUSION, starts_clause=True)),
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
