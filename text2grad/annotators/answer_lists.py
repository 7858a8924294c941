"""Word lists behind the judgement of an answer by another answer; data, no code."""

# Words of which an answer has one and the other, about the same thing, has the second.
ANTONYMS = """
increase decrease; rise fall; grow shrink; high low; higher lower; highest lowest; more less;
more fewer; most least; before after; earlier later; always never; true false; correct incorrect;
right wrong; hot cold; warm cool; large small; big small; long short; longest shortest; north south;
northern southern; east west; eastern western; left right; positive negative; singular plural;
win lose; won lost; success failure; alive dead; male female; legal illegal; possible impossible;
safe unsafe; safe dangerous; accept reject; allow forbid; allow prevent; include exclude;
open close; open closed; above below; inside outside; maximum minimum; buy sell; import export;
major minor; internal external; public private; young old; new old; fast slow; faster slower;
strong weak; stronger weaker; light heavy; light dark; wet dry; rich poor; good bad; best worst;
better worse; same different; active passive; acidic alkaline; acid base; first last; oldest
youngest; visible invisible; mutable immutable; ascending descending; clockwise counterclockwise;
even odd; prime composite; ancient modern; temporary permanent; mandatory optional; similar
different; easy difficult; simple complex; stable unstable; regular irregular; gain loss; profit
loss; asset liability; debit credit; encode decode; encrypt decrypt; compile interpret; import
export; upper lower; front back; top bottom; day night; summer winter; enemy ally; agree disagree
"""

# Units of one kind, a line each; the same number with another of them is another quantity.
UNITS = """
second minute hour day week month year decade century millisecond
metre meter kilometre kilometer km mile foot feet inch yard centimetre centimeter cm mm millimetre
gram g kilogram kg pound lb ounce oz ton tonne milligram mg
litre liter millilitre ml gallon cup tablespoon teaspoon pint quart
celsius fahrenheit kelvin
dollar euro pound yen rupee cent
thousand million billion trillion
byte kilobyte megabyte gigabyte terabyte kb mb gb tb
am pm
percent degree
"""

# The first word of a verdict, by what it says.
AFFIRMING = "yes yeah yep true correct right agree positive"
DENYING = "no nope false incorrect wrong disagree negative"

# Words before an answer that are none of it.
LABELS = "answer output solution label result response final the is a: sure"

# How a refusal sounds, as patterns, one a line.
REFUSALS = r"""
\bi(?:'m| am)? (?:really |very |truly )?(?:sorry|afraid),? (?:but )?(?:i|this|that|as)\b
\bi (?:can(?:no|')t|cannot|can not|won't|will not)(?: \w+)? (?:provide|help|assist|answer)\b
\bi (?:can(?:no|')t|cannot|can not|won't|will not)(?: \w+)? (?:fulfil+|comply|do that|engage)\b
\bi (?:can(?:no|')t|cannot|can not|won't|will not)(?: \w+)? (?:generate|create|give|write)\b
\bi (?:can(?:no|')t|cannot|can not|won't|will not)(?: \w+)? (?:access|complete|determine)\b
\bi(?:'m| am) (?:unable|not able|not allowed|not permitted|not comfortable|not programmed)\b
\bi (?:do not|don't) (?:have (?:access|enough|the ability|personal|real)|feel comfortable)\b
\bi must (?:decline|refuse)\b
\bas an ai(?: language model)?,? i\b
\bit (?:is|would be) not (?:appropriate|ethical|possible for me)\b
\bi apologi[sz]e,? but\b
\bnot able to (?:provide|answer|assist)\b
"""

# How a sentence sounds that serves politeness alone, as patterns, one a line.
FILLERS = r"""
^(?:sure|certainly|of course|absolutely|great|okay|ok|no problem)\b[^.!]{0,80}!
^(?:sure|certainly|of course|absolutely|understood)[.!]?$
^(?:sure|certainly|of course)[,!] (?:i|here|let)\b
^(?:hello|hi|hey|greetings|good (?:morning|day|evening))\b
^(?:thank you|thanks) (?:for|so much)\b
^(?:that's|that is|what) an? (?:great|good|excellent|interesting|wonderful) (?:question|idea)
\bi(?:'m| am|'d| would) (?:be )?(?:more than )?(?:here|happy|glad) to (?:help|assist|provide)
^(?:as an? )?(?:helpful|respectful|honest)[^.]{0,80}\bassistant\b
\bas a (?:helpful|responsible|respectful)[^.]{0,80}\bassistant\b
^i (?:hope|trust) (?:this|that|it|these|you)\b
\blet me know if\b
\bfeel free to (?:ask|reach|contact|let)\b
\bdon't hesitate to\b
\bif you have (?:any|further|more|other|additional) [^.]{0,60}\b(?:questions?|concerns?)
^i (?:understand|see) that you\b
^i(?:'ll| will) do my best\b
^(?:best|kind) regards\b
"""

# An AI's own grade of its answer: neither content nor fault.
GRADES = r"^\W{0,8}confidence(?: level| score)?\W{0,8}\d{0,3}\W{0,8}$"

# What is asked of the form, as patterns with the number, if any, in a group.
WORD_LIMIT = (
    r"\b(?:(?:no more|less|fewer|not more) than|at most|under|within|up to|max(?:imum)?(?: of)?"
    r"|in|about|around|exactly|of)\s+(\d{1,4})\s+words?\b|\b(\d{1,4})[- ]words?\b(?!\s+or\s+more)"
)
LEAST_WORDS = r"\b(?:at least|minimum(?: of)?|more than|over)\s+(\d{1,4})\s+words?\b"
SENTENCE_LIMIT = (
    r"\b(?:in|using|with|into|as|write|of)\s+(?:just |only |exactly |a |at most |no more than )?"
    r"(\d{1,2}|one|two|three|four|five|six|single)[- ](?:short |simple |concise )?sentences?\b"
)
ITEM_COUNT = (
    r"\b(?:list|give|name|provide|write|suggest|generate|create|make|share|find|identify|describe"
    r"|recommend|come up with|tell|what are|show|offer|propose)\b"
    r"(?:\s+(?:me|us|out|up|the|a|at|least|list|of|top|best|some))*\s+(\d{1,2}|two|three|four|five|six|seven|eight|nine|ten|twelve"
    r"|fifteen|twenty)\s+(?!words?\b|sentences?\b|paragraphs?\b|lines?\b|levels?\b|years?\b"
    r"|minutes?\b|times\b|star\b)(?:[\w'-]+\s+){0,3}?([a-z]{3,}s)\b"
)
LANGUAGE_WORDS = (
    r"\btranslat|\blocali[sz]|\blanguage|\bin (?:english|spanish|french|german|italian|portuguese"
    r"|dutch|russian|chinese|japanese|korean|arabic|hindi|bengali|tamil|telugu|thai|greek|hebrew)\b"
)
LIST_WORDS = (
    r"\b(?:bullet(?:ed)?(?: points?| list)?|numbered list|list of|step[- ]by[- ]step|in steps)\b"
)
TABLE_WORDS = r"\btable\b"
JSON_WORDS = r"\bjson\b"
CODE_WORDS = (
    r"\b(?:code|script|program|function|class|query|regex|implement(?:ation)?|python|java(?:script)?"
    r"|html|css|sql|bash|c\+\+|c#|ruby|php|rust|golang|typescript|django)\b"
)

# Frequent words by which a language of the Latin script is known.
LANGUAGES = {
    "English": "the and of is that with for are this it was which from have by not you be",
    "Spanish": "el los las que una por con para del se es su más pero como está son y",
    "French": "le les des est une dans pour qui sur pas avec ce sont au du vous nous et",
    "German": "der die und das ist nicht ein eine mit den von zu auf sich für dem werden",
    "Italian": "il che di gli una per non con sono della nel è più anche come alla lo",
    "Portuguese": "os uma que não com para do da em são mais como por ao dos das você e",
    "Dutch": "het een van en dat niet zijn met voor de op aan worden ook wordt maar",
}

# Scripts by their first and last characters.
SCRIPTS = (
    ("Latin", "A", "ɏ"),
    ("Greek", "Ͱ", "Ͽ"),
    ("Cyrillic", "Ѐ", "ԯ"),
    ("Hebrew", "\u0590", "\u05ff"),
    ("Arabic", "\u0600", "\u077f"),
    ("Devanagari", "\u0900", "\u097f"),
    ("Bengali", "\u0980", "\u09ff"),
    ("Tamil", "\u0b80", "\u0bff"),
    ("Telugu", "\u0c00", "\u0c7f"),
    ("Thai", "\u0e00", "\u0e7f"),
    ("Japanese", "\u3040", "\u30ff"),
    ("Chinese", "\u4e00", "\u9fff"),
    ("Korean", "\uac00", "\ud7af"),
)

# Words that an open-ended text is to use, as a pattern with all of them in a group.
ASKED_WORDS = (
    r"\b(?:with|uses?|using|contains?) the words? "
    r"([\w'’-]+(?:(?:, [\w'’-]+)*,? and [\w'’-]+)?)"
)

# Phrases that have been read too often, as patterns, one a line.
WORN = r"""
\bonce upon a time\b
\bhappily ever after\b
\b(?:dark|cold) and stormy\b
\bin the blink of an eye\b
\blittle did (?:he|she|they|i|we) know\b
\bat the end of the day\b
\b(?:heart|hearts) (?:skipped|pounding|pounded|raced|racing)\b
\b(?:sent|send|sending) shivers? down\b
\bnever (?:be|been|felt) the same\b
\bthe rest is history\b
\bwith bated breath\b
\b(?:a|the) (?:testament|tapestry|beacon|symphony) (?:to|of)\b
\bfor what (?:felt|seemed) like (?:an eternity|hours|forever)\b
\btime stood still\b
\b(?:they|he|she) lived happily\b
\ba (?:sense|feeling) of (?:wonder|peace|hope|belonging|purpose|calm|joy)\b
\b(?:learned|realized|realised) (?:the|a) (?:true|valuable|important) \w+
\bthe true meaning of\b
\bfilled with (?:wonder|joy|hope|love|excitement)\b
\b(?:bustling|vibrant|picturesque) (?:city|town|village|market)\b
\bsmall (?:town|village) (?:nestled|named|called)\b
\bnestled (?:in|between|among)\b
"""

# How a clause sounds that talks about the text, as patterns, one a line.
ABOUT_THE_TEXT = r"""
^(?:here|below) (?:is|are) (?:a|an|the|your|my|one)\b[^.]{0,60}\b(?:story|poem|letter|scene|text)\b
^(?:here|below) (?:is|are) (?:a|an|the|your|my|one)\b[^.]{0,60}\b(?:entry|sentences?|note|draft)\b
^(?:here's|this is) (?:a|an|the|your|my|one)\b[^.]{0,60}\b(?:story|poem|letter|scene|text|entry)\b
^(?:in (?:this|the) (?:story|poem|letter|scene|text)|the story (?:begins|ends|is about))\b
^(?:title|story|poem|letter|note|scene|draft|version \d)\W*$
\bthe (?:moral|message) of (?:this|the) story\b
\bas an ai\b
\bthis (?:story|poem|letter|scene) (?:shows|tells|is|uses|contains|captures)\b
"""
