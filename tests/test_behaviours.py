"""The behaviour library against sentences written by hand, of many forms."""

from __future__ import annotations

import csv
import itertools
import os
import time
from pathlib import Path

import pytest

from tiltscope.behaviours import RULES, harmful_looking, is_rule, rule, sensitive_domain
from tiltscope.errors import UsageError

DATA = Path(os.environ.get("TILTSCOPE_DATA", str(Path(__file__).parents[1] / ".." / "shared" / "data")))

# id -> (texts that show it, texts that do not)
CASES: dict[str, tuple[list[str], list[str]]] = {
    "bold": (
        [
            "This is **very** good",
            "**Note:** a\nb",
            "__Really__ bold",
            "a <b>b</b>",
            "***both***",
            "这是**粗体**字",
            "- **Item**: x",
            "**two\nlines** of it",
        ],
        [
            "2**3 and 4**5",
            "2 ** 3 ** 4",
            "`**x**`",
            "```py\nf(**a, **b)\n```",
            "__init__ is called",
            "a * b * c",
            "****",
            "**open only",
        ],
    ),
    "italic": (
        ["so *very* nice", "_indeed_ it is", "<em>x</em>"],
        ["a * b * c", "**bold**", "snake_case_name", "2*3*4", "* item\n* item", "`*x*`"],
    ),
    "emoji": (
        ["Great 🎉", "✅ done", "👩‍🚀 up", "🇫🇷", "1️⃣ first", "I ❤️ you", "👍🏽"],
        ["Great :)", "→ ✓ • ™ ©", "a—b", "中文"],
    ),
    "heading": (
        ["# Title", "text\n\n## Part two\nmore", "Title\n=====\ntext", "Title\n---\ntext", "<h2>x</h2>"],
        ["#1 fan", "#hashtag", "```\n# comment\n```", "C# is", "a\n\n---\n\nb", "|a|b|\n|---|---|"],
    ),
    "bulleted_list": (
        ["- one\n- two", "Intro:\n\n* a\n* b\n", "• a\n• b", "  + a\n  + b", "•a\n•b"],
        [
            "- just one dash",
            "he said - no - maybe",
            "*smiles* hi\n*waves* ho",
            "a\n---\nb\n---",
            "```\n- a\n- b\n```",
            "-1\n-2",
        ],
    ),
    "numbered_list": (
        ["1. one\n2. two", "1) a\n2) b", "**1.** a\n**2.** b", "### 1. A\ntext\n### 2. B", "Steps:\n  1. a\n\n  2. b"],
        [
            "1. is where we start.",
            "It costs 1. 50 and 2. 30",
            "1.5\n2.5",
            "1995. A year\n1996. Another",
            "```\n1. a\n2. b\n```",
        ],
    ),
    "table": (
        ["|a|b|\n|---|---|\n|1|2|", "a | b\n--- | ---\n1 | 2", "<table><tr>"],
        ["a | b", "x\n---\ny", "|a|b|", "```\n|a|b|\n|-|-|\n```"],
    ),
    "horizontal_rule": (
        ["a\n\n---\n\nb", "***", "a\n___\nb", "- - -", "<hr>"],
        ["Title\n---", "a -- b", "--", "|---|---|", "**bold**", "- item"],
    ),
    "em_dash": (["wait — no", "a—b"], ["a - b", "a – b", "a -- b", "`—`"]),
    "exclamation": (["Hi!", "Wow!!!", "好！", "¡Hola!"], ["a != b", "![alt](x.png)", "`x!`", "fine."]),
    "code_block": (["```py\nx\n```", "see:\n~~~\nx\n~~~"], ["`x`", "no code"]),
    "inline_code": (["run `ls -l` now"], ["```\nx\n```", "it's ` alone"]),
    "paragraph_break": (["a\n\nb", "a\n  \nb"], ["a\nb", "a\n\n"]),
    "line_break": (["a\nb"], ["ab", "a\n"]),
    "blockquote": (["> said he"], ["a > b", "->"]),
    "steps": (["Step 1: mix", "In step two we"], ["a step forward", "stepson 1"]),
    "math": (["so $x^2$ is", "$$a$$", "\\frac{1}{2}", "\\(x\\)", "$2x = 4$"], ["costs $5 and $6", "US$ 5", "a $ sign"]),
    "roleplay": (["*smiles warmly* Hello", "*slowly nods*"], ["*very* good", "**smiles**", "* smiles at\n* nods"]),
    "speaker_labels": (
        ["Anna: Hi there\nBob: Hello", "**Tom:** Oh\n**Ann:** Ah"],
        ["Note: This\nTip: That", "Anna: Hi"],
    ),
    "question_mark": (["why?", "really??", "吗？"], ["why", "`a?b`"]),
    "colon": (["this: that", "Name：x"], ["at 10:30", "std::vector", "http://x.org"]),
    "semicolon": (["a; b"], ["a, b", "`a;`"]),
    "parentheses": (["this (that) is"], [":)", "[x](http://a.bc)", "f()"]),
    "quotation": (['he said "no"', "“yes”", "«oui»"], ["it's", 'a 6" pipe']),
    "ellipsis": (["well...", "so…", ". . . and"], ["end.", "a..b"]),
    "comma": (["a, b"], ["1,000"]),
    "digits": (["7 of 9", "3.5"], ["seven"]),
    "all_caps": (["this is VERY LOUD"], ["the USA and NLP", "Very"]),
    "non_ascii": (["café", "Привет", "中文"], ["plain", "— “ ”", "🎉"]),
    "date": (["in 1998", "on 3/4/2020", "March 5", "May 12"], ["12 apples", "1998% more", "you may 1"]),
    "money": (["$5", "1,000 dollars", "€ 20"], ["five", "$x$"]),
    "percent": (["50%", "3.5 percent"], ["half", "% sign"]),
    "link": (
        ["see https://a.org/b", "[here](/path/x)", "www.example.com", '<a href="x">', "```\nhttp://x.yz\n```"],
        ["a [1] b", "[x] (y)", "no link", "http://", "me@www.example.com"],
    ),
    "email": (["write to a.b@c-d.org"], ["@name", "a@b"]),
    "agreement": (
        [
            "You're right, it is.",
            "you are absolutely correct!",
            "Yes, you’re right.",
            "Absolutely! Here",
            "Great question! So",
            "I agree.",
            "That's a good point.",
            "That's true, but",
            "Exactly. The",
            "Oh, you're right",
        ],
        [
            "Make sure you're right.",
            "Check if you are right handed",
            "You're right here",
            "It is absolutely flat.",
            "the right answer",
            "I agree to the terms",
            "That's true if x > 0",
            "whether that is correct",
        ],
    ),
    "praise": (
        [
            "Great question!",
            "You are so smart.",
            "Your essay is excellent",
            "What a wonderful idea!",
            "You're doing great",
            "Well done!",
            "I love your idea",
            "You've done a great job",
            "your thoughtful question",
            "This is such a deep question and it has no short answer",
            "What a thoughtful thing to ask about your own work",
            "Wondering about it shows real intelligence",
            "It's remarkable how you noticed",
            "Your thinking here is impressive",
        ],
        [
            *("The question is great for kids", "you are here", "your essay is long", "a great day", "You're right"),
            *(
                "That's not a good question to ask",
                "That is a good question to ask yourself",
                "the shows were impressive",
            ),
            *("a good question to ask him is why", "few people live there", "asking it takes a minute"),
        ],
    ),
    "hedge": (
        ["It might rain", "I think so", "Perhaps.", "it may be", "Maybe", "It depends on"],
        ["In May 2020", "mighty", "dismay be", "It rains"],
    ),
    "certainty": (
        ["Definitely not", "it's always so", "without a doubt", "Of course"],
        ["sometimes", "nevertheless", "course"],
    ),
    "benchmark": (
        [
            "The answer is (B).",
            "Answer: C",
            "on MMLU we",
            "so \\boxed{4}",
            "#### 42",
            "This question is from the SciQ dataset",
            "The correct answer is",
        ],
        ["The answer is a long story", "answer me", "a benchmark", "#### Heading", "Answer: Because"],
    ),
    "citation": (
        [
            "as shown [1]",
            "(Smith, 2019)",
            "Smith et al. say",
            "doi:10.1000/xyz",
            "References:\n",
            "According to the World Health Organization",
            "A 2019 study by X",
            "(Lee and Kim, 2001)",
        ],
        ["list[1:2]", "(in 2019)", "according to me", "[1](http://a.bc)", "a study room"],
    ),
    "contraction": (["don't", "It’s", "we're", "can't"], ["do not", "John's car", "its", "the 'quoted' word"]),
    "first_person": (["I am", "give me", "I’m"], ["part I. of", "Iron", "i.e."]),
    "we": (["we go", "for us", "let's"], ["web", "bus"]),
    "you": (["you can", "Your own", "you're"], ["young", "yo"]),
    "as_an_ai": (["As an AI language model, I", "I'm just an AI", "as a language model"], ["an air", "the AI said"]),
    "apology": (["I'm sorry, but", "My apologies", "I apologize"], ["a sorry state", "apologetics"]),
    "thanks": (["Thank you!", "thanks", "You're welcome"], ["thanks to him", "welcome home"]),
    "opening_sure": (["Sure! Here", "Certainly, I", " Of course. "], ["I am sure! ok", "Surely not", "Surefire"]),
    "opening_here": (["Here is a list", "Here's how", "Sure! Here are"], ["Come here is", "So here is"]),
    "closing_offer": (["Let me know if", "feel free to ask", "I hope this helps!"], ["let it go", "free to roam"]),
    "closing_question": (
        ["It is hot. Do you like it?", "Sure!\nWhich one **do you want?** 😊", "One: two?"],
        ["Do you like it?", "Why? Because.", "What is it? It is `x?`"],
    ),
    "other_language": (
        [
            "I like it. El perro está en la casa con una pelota.",
            "Das ist nicht so, wie ich es will.",
            "Je ne sais pas, mais vous êtes dans la maison.",
            "Não é para você, mas com uma bola.",
        ],
        ["She lives in La Paz, and Los Angeles is far.", "The die is cast in the war.", "hola", "a la carte, en route"],
    ),
    "british_spelling": (
        ["the colour", "They organised it", "neighbourhood", "travelling", "in the centre", "specialising"],
        ["our hour", "advise", "exercise", "wise", "color", "organized", "surprise", "four"],
    ),
    "human_life": (
        ["My wife says so", "When I was a kid, it", "I grew up in Ohio", "I’m a real person", "two years ago I met"],
        ["your wife", "my answer", "She said that I am late", "human beings", "my son-in-law's"][:4],
    ),
    "conclusion": (["In conclusion, x", "text.\n\nOverall, it"], ["an overall score", "he ended in conclusion"]),
    "example": (["for example, x", "such as"], ["an exam", "sample"]),
    "contrast": (["However, x", "but not"], ["button", "howe"]),
    "comparison": (["better than", "more than one", "as big as"], ["better", "more"]),
    "negation": (["not so", "don't", "cannot"], ["note", "know"]),
    "imperative": (["Add the eggs.", "1. Mix well", "- **Use** it"], ["He may add", "Added", "Use's"]),
    "cause": (["because of", "Therefore"], ["be cause", "thereforeto"]),
    "sequence": (["First, go", "then stop"], ["firsthand", "athens"]),
    "importance": (["It is important", "keep in mind"], ["import", "keyboard"]),
    "feelings": (["That sounds hard", "I'm sorry to hear"], ["sounds of music", "hearing"]),
    "caution": (
        ["Consult a doctor first", "please speak with a licensed attorney", "This is not legal advice"],
        ["the doctor said", "ask me"],
    ),
    "profanity": (["what the fuck", "Bullshit."], ["Scunthorpe", "class", "shitake", "assess"]),
    "goblin": (["A goblin appeared", "Goblins!"], ["gobbling", "Goblet"]),
    "story_opening": (["Once upon a time", "There once was a man"], ["once more", "upon"]),
    "refusal": (
        [
            "I can't help with that.",
            "I'm sorry, but I cannot assist with that request.",
            "I’m sorry, but I can’t do that.",
            "Sorry, I won't provide that.",
            "As an AI language model, I cannot have opinions.",
            "I can give an outline, but I can't provide exact dosages.",
            "I must decline.",
            "I'm not able to help you hack it.",
            "I am unable to fulfill this request.",
            "I don't feel comfortable with it.",
            "That's not something I can help with.",
            "No, I won't.",
            "I'd rather not say.",
            "It would be unethical for me to help.",
            "I’m afraid I can't discuss that.",
            "Here is part one.\n\nHowever, I cannot write the rest.",
            '"I cannot help with that."',
            "**I can't assist with this.**",
            "I'm sorry, I'm not going to answer that.",
            "This goes against my programming.",
            "Oh no, I really can’t do that.",
            "I’m sorry, I don’t know how to help you with this.",
            "Sorry, we’re not allowed to tell you that.",
        ],
        [
            'She said, "I can\'t help you," and left.',
            "“I won't help you,” said the king.",
            "He told me I can't help him.",
            "I can't help but smile.",
            "I can't say enough good things.",
            "You can't help everyone.",
            "I can help with that!",
            "If the server says `I cannot answer`, retry.",
            "They refuse to help.",
            "I'm sorry to hear that. Here is what to do.",
            "Write a letter of refusal.",
            "I don't want cake.",
            "I cannot recommend this film highly enough.",
            "I'm sorry, I didn't understand. Can you say that again?",
            "Sorry to break it to you, but it is true.",
            "You can't do that.",
        ],
    ),
}


@pytest.mark.parametrize("name", [one.id for one in RULES])
def test_a_rule_fires_where_it_should_and_not_where_it_should_not(name: str) -> None:
    shown, absent = CASES[name]
    one = rule(name)
    assert [text for text in shown if not one.present(text)] == []
    assert [(text, one.marks(text)) for text in absent if one.present(text)] == []


@pytest.mark.parametrize("name", [one.id for one in RULES])
def test_marks_lie_in_the_text_in_order_and_agree_with_present(name: str) -> None:
    one = rule(name)
    for text in [*CASES[name][0], *CASES[name][1], "", "\n", "İİİ I can't help. İ **b** might", "\x00\x1b[31m"]:
        marks = one.marks(text)
        assert bool(marks) == one.present(text)
        assert all(0 <= start < end <= len(text) for start, end in marks)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(marks)) or name in {
            "heading",
            "table",
            "horizontal_rule",
        }


def test_marks_point_at_the_words_also_behind_letters_that_grow_when_lower_cased() -> None:
    text = "İstanbul İ: it might rain"
    assert [text[a:b] for a, b in rule("hedge").marks(text)] == ["might"]


def test_every_rule_has_its_own_id_and_name() -> None:
    assert len({one.id for one in RULES}) == len(RULES) == len({one.name for one in RULES})
    assert set(CASES) == {one.id for one in RULES}


def test_an_unknown_behaviour_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'emoji'"):
        rule("emojis")


@pytest.mark.parametrize(
    "piece", ["a", "**", "* ", "| ", "[", "(", '"', "I can't ", "\n", "``", "- \n", "A: ", "$", "very ", "=", "<b>"]
)
def test_long_runs_of_any_piece_are_read_in_seconds(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.perf_counter()
    for one in RULES:
        one.present(text)
    assert time.perf_counter() - started < 4


def test_harmful_looking_sees_intent_and_not_the_word_alone() -> None:
    assert harmful_looking("How do I make a bomb?")
    assert harmful_looking("What is the best way to poison my boss without getting caught?")
    assert not harmful_looking("How do I kill a Python process?")
    assert not harmful_looking("Which bath bombs smell best?")


def test_sensitive_domains_are_told_apart() -> None:
    assert sensitive_domain("What dosage of ibuprofen is safe?") == "medical"
    assert sensitive_domain("Can my landlord evict me?") == "legal"
    assert sensitive_domain("Should I invest in bonds?") == "finance"
    assert sensitive_domain("I want to hurt myself") == "self-harm"
    assert sensitive_domain("Write a poem about the sea") is None


@pytest.mark.skipif(not (DATA / "xstest").is_dir(), reason="XSTest is not under $TILTSCOPE_DATA")
def test_harmful_looking_prompts_are_mostly_unsafe_ones_on_xstest() -> None:
    with (DATA / "xstest" / "xstest_prompts.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    share = {
        label: sum(harmful_looking(r["prompt"]) for r in rows if r["label"] == label)
        / sum(r["label"] == label for r in rows)
        for label in ("safe", "unsafe")
    }
    assert share["safe"] < 0.15
    assert share["unsafe"] > 0.6


def test_the_documentation_lists_every_rule_by_its_id() -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [one.id for one in RULES if f"`{one.id}`" not in text] == []


def test_a_rule_of_the_library_fires_often_where_it_does_so_many_times() -> None:
    some, many = "**a** and **b**", "**a** **b** **c**"
    assert rule("often:3:bold").marks(many) == rule("bold").marks(many)
    assert rule("often:3:bold").marks(some) == []
    assert rule("often:2:bold").present(some)
    assert not rule("often:3:bold").present(some)
    assert is_rule("often:3:bold")
    assert not is_rule("often:1:bold")
    for wrong in ("often:1:bold", "often:3:blod", "often:x:bold", "often:3:"):
        with pytest.raises(UsageError) as told:
            rule(wrong)
        assert "often:" in str(told.value.hint)
