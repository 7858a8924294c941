"""Word lists behind the comparison of two English texts; data, no code."""

# Words without content of their own.
FUNCTION = """
a about above across after again against ago all almost along already also although always am
among an and another any anyone are around as at away back be because been before being below
between both but by can can't cannot could couldn't did didn't do does doesn't doing don't done
down during each either else even ever every everyone few for from further had hadn't has hasn't
have haven't having he he'd he'll he's her here hers herself him himself his how however i i'd
i'll i'm i've if in instead into is isn't it it's its itself just least less let like lot lots m
many may me might mine more most much must my myself neither never no nobody none nor not nothing
now of off often on once one only onto or other others our ours out over own per perhaps quite
rather re really s same shall she she'd she'll she's should shouldn't since so some someone
sometimes soon st still such t than that that's the their them themselves then there there's these
they they'd they'll they're they've this those though through throughout till to too toward
towards under until up upon us very via was wasn't we we'd we'll we're we've were weren't what
what's whatever when where whether which while who whom whose why will with within without won't
would wouldn't yes yet you you're your yours th nd rd etc ie eg am pm edit update tldr tl dr op
"""

# Words that say little about what a text is about: a summary may use them freely.
LIGHT = """
able accept add act anything everything something somehow actually advice afraid agree allow
anymore anyway apart apparently appear approach ask bad be because become begin believe best
better big bit bring call care case cause certain change choice choose clear come consider
continue current currently day deal decide different difficult discuss end expect explain face
fact fail fair feel find first follow force former full general get give go good great guess
handle happen hard help high hold hope idea important involve issue keep kind know last late later
lead leave let life likely little live long look lose low make main manage matter mean mention
method move much multiple near need new next number object offer ok okay old opinion option order
part past people perform person place plan point possible prefer problem proper propose put
question reach ready real reason receive recent recently refuse regularly reject remain repeated
repeatedly request require resolve respond return right run say see seem several share show simply
single situation small solve sort sound speak start state stay stop struggle sudden suddenly
suggest sure set rest wait go home avoid extend quick fast despite except near wear hear answer
depend pick finish fun disagree mind opt count take talk tell thing think time today together
tonight total treat try turn unable understand unsure upset use usual usually want warn way week
whole willing wish wonder word work worry worried worth write wrong year young
"""

# Everyday words that stand for each other in a summary, one group a line.
SAME = """
mother mum mom mama mummy
father dad papa daddy
grandmother gran grandma granny nan
grandfather grandpa grandad granddad
husband hubby
wife missus
boyfriend bf
girlfriend gf
brother bro
sister sis
flatmate roommate housemate
flat apartment house place home
doctor gp physician paediatrician pediatrician
boss manager supervisor
colleague coworker workmate
job position role posting career
money cash savings
pay payment repay
buy purchase
sell sale
owe debt
borrow lend loan
spend expense
price charge bill invoice fee
car vehicle
phone mobile cellphone ring
picture photo photograph image
film movie
holiday vacation trip travel
university uni college campus
separate divorce breakup split
angry anger furious mad outraged annoyed
blame fault accuse
argue argument quarrel fight row disagree conflict
begin start launch
daily everyday day
month monthly
week weekly
year yearly annual annually
night nightly overnight
repair fix mend
large big huge
quit resign
child kid toddler
refuse decline reject
email mail
letter note
town city
tired exhausted fatigue
sleep slept asleep doze
clean wash scrub
noise loud noisy
dead die death late passed
ill sick unwell illness
hurt pain injure
afraid scared fear terrified frightened anxious anxiety
happy glad thrilled pleased
sad unhappy miserable
delay late postpone
cancel cancellation
move relocate
test exam
grade mark score
class lesson course
teacher tutor mentor instructor
pupil student
lecture lecturer professor
shop store
meal dinner lunch supper breakfast
eat food
throw discard bin
hide hidden conceal secret secretly
lie pretend fake
steal theft rob
shout yell scream
tease mock joke laugh
cry tears
ignore overlook
visit stay guest
neighbour neighbor
rent lease tenant
landlord landlady owner
wedding marry marriage married
fiancé fiancée engage
pregnant pregnancy expecting
baby infant newborn
cat kitten
dog puppy
apologise apologize sorry apology
thank grateful gratitude
insist demand claim
agree accept
permit allow permission
forbid ban
promise vow swear
message text chat
laptop computer pc
bike bicycle
return refund
contract agreement
lawyer solicitor attorney
complain complaint
proof evidence
interview applicant application apply
salary wage income earn
promote promotion
fire dismiss sack
exercise gym workout
weekend saturday sunday
advice tip recommendation
"""

# A word and its irregular forms, words separated by semicolons.
IRREGULAR = """
become became; begin began begun; break broke broken; bring brought; build built; buy bought;
catch caught; choose chose chosen; come came; cut cutting; drink drank drunk; drive drove driven;
eat ate eaten; fall fell fallen; feel felt; fight fought; find found; fly flew flown; forget
forgot forgotten; get got gotten; give gave given; go went gone going goes; grow grew grown; hear
heard; hide hid hidden; hold held; keep kept; know knew known; lead led; leave left; lend lent;
lie lied lying; lose lost; make made; mean meant; meet met; pay paid; ride rode ridden; ring rang
rung; rise rose risen; run ran; say said; see saw seen; sell sold; send sent; shake shook shaken;
sing sang sung; sit sat; sleep slept asleep; speak spoke spoken; spend spent; stand stood; steal
stole stolen; swim swam swum; take took taken; teach taught; tell told; think thought; throw threw
thrown; use using; wake woke woken awake; wear wore worn; win won; write wrote written; child
children kid kids; man men; woman women; person people; wife wives; life lives; foot feet; tooth
teeth
"""

NEGATIVE = "not no never nobody nothing neither nor none without cannot"

# Words that need something to go with them before they tell a reader anything.
VAGUE = """
issue problem problematic situation thing something somehow everything anything stuff matter
trouble tension difficulty difficult hard complication complicated awkward bad advice help tip
idea input suggestion opinion thought feeling doubt uneasy mixed circumstance reason event happen
upset stress struggle bother various several certain different number kind sort lot bit part way
decide handle deal
"""

PEOPLE = """
mother father parent husband wife partner boyfriend girlfriend ex brother sister sibling cousin
aunt uncle niece nephew son daughter child friend family flatmate boss colleague neighbour teacher
man woman boy girl guy lady
"""

# What somebody wants, knows or thinks may be denied here and affirmed there without contradiction.
WISHES = "want know think"

# Words that open a clause.
OPENERS = """
because after before while since when although though but and so if unless until which who whose
where whereas despite
"""

# Words a quote neither starts nor ends with.
LOOSE_START = "and but or so that then also"
LOOSE_END = """
a an the of to and or but for with at by in on from as that my our his her their its your i is was
are were be been has have had will would who which because if when while so this
"""

PREPOSITIONS = """
to of with at by for from in on about after before because since without into over under during
through than as per like until
"""

# A summary with one of these asks something, question mark or not.
ASKING = "ask asks asking wonder wonders wondering question advice whether"

UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"

# Characters of Chinese that say little about what a text is about.
COMMON_CHARACTERS = "的了是在和与也就都而及或不我你他她它们这那有个为以对到之其被把让吗呢吧"
