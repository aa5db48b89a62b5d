"""Writes the training corpus and the held-out set of the bundled model.

Everything comes from one seeded generator. A document is a list of
(text, weight) pieces in the order the model reads them; the weight says how
much the loss of that piece counts. Each item has a key, and one key in
sixteen, chosen by hash, is held out: training never draws such an item, and
the held-out set draws nothing else.
"""

import argparse
import hashlib
import json
import random

import words as W

PROMPT_WEIGHT = 0.0  # user text has nothing to teach: it was drawn at random
STORY_WEIGHT = 0.3  # most of a story is a free choice too
FILLERS = ["It was a sunny day.", "The weather was fine.", "It was early in the morning.",
           "Everyone was in a good mood.", "It rained a little.", "The streets were quiet."]


def held(key):
    return hashlib.sha256(key.encode()).digest()[0] % 16 == 0


def join(parts, last="and"):
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" {last} " + parts[-1]


def an(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def cap(text):
    return text[0].upper() + text[1:]


class Corpus:
    """Draws items from one random stream, all held out or none."""

    def __init__(self, seed, want_held=False, long=False):
        self.r = random.Random(seed)
        self.want_held = want_held
        self.long = long

    def draw(self, make, key):
        """The first item from make() that lies on our side of the split."""
        while True:
            item = make()
            if held(key(item)) == self.want_held:
                return item

    def name(self):
        """Mostly a listed name; sometimes an invented one, so that copying is learnt."""
        if self.r.random() < 0.15:
            return cap("".join(self.r.choice(W.SYLLABLES) for _ in range(self.r.choice((2, 2, 3)))))
        return self.r.choice(W.NAMES)

    # Questions about a passage ------------------------------------------------

    def value(self, rel):
        c = self.r.choice
        return {
            "lives": lambda: c(W.CITIES),
            "owns": lambda: (c(W.COLOURS), c(W.OBJECTS)),
            "pet": lambda: (c(W.ANIMALS), c(W.PET_NAMES)),
            "job": lambda: c(W.JOBS),
            "age": lambda: str(self.r.randint(5, 99)),
            "likes": lambda: c(W.FOODS),
            "went": lambda: (c(W.PLACES), c(W.DAYS)),
        }[rel]()

    def predicate(self, rel, v):
        return self.r.choice({
            "lives": lambda: [f"lives in {v}", f"lives in {v}", f"has a home in {v}"],
            "owns": lambda: [f"has {an(' '.join(v))}", f"owns {an(' '.join(v))}"],
            "pet": lambda: [f"has {an(v[0])} named {v[1]}", f"has {an(v[0])} called {v[1]}"],
            "job": lambda: [f"works as {an(v)}", f"is {an(v)}"],
            "age": lambda: [f"is {v} years old"],
            "likes": lambda: [f"likes {v}", f"likes to eat {v}", f"loves {v}"],
            "went": lambda: [f"went to the {v[0]} on {v[1]}", f"was at the {v[0]} on {v[1]}"],
        }[rel]())

    def question(self, n, rel, v):
        """A question that the fact (n, rel, v) answers, and the answer."""
        options = {
            "lives": lambda: [(f"Where does {n} live?", f"{n} lives in {v}."),
                              (f"In which city does {n} live?", f"{n} lives in {v}."),
                              (f"Who lives in {v}?", f"{n} lives in {v}.")],
            "owns": lambda: [(f"What does {n} have?", f"{n} has {an(' '.join(v))}."),
                             (f"What colour is {n}'s {v[1]}?", f"{n}'s {v[1]} is {v[0]}."),
                             (f"Who has {an(' '.join(v))}?", f"{n} has {an(' '.join(v))}.")],
            "pet": lambda: [(f"What is the name of {n}'s {v[0]}?", f"{n}'s {v[0]} is named {v[1]}."),
                            (f"Who has {an(v[0])}?", f"{n} has {an(v[0])}."),
                            (f"What pet does {n} have?", f"{n} has {an(v[0])} named {v[1]}.")],
            "job": lambda: [(f"What is {n}'s job?", f"{n} is {an(v)}."),
                            (f"What does {n} do for work?", f"{n} is {an(v)}."),
                            (f"Who is {an(v)}?", f"{n} is {an(v)}.")],
            "age": lambda: [(f"How old is {n}?", f"{n} is {v} years old."),
                            (f"What is {n}'s age?", f"{n} is {v} years old."),
                            (f"Who is {v} years old?", f"{n} is {v} years old.")],
            "likes": lambda: [(f"What does {n} like?", f"{n} likes {v}."),
                              (f"What does {n} like to eat?", f"{n} likes {v}."),
                              (f"Who likes {v}?", f"{n} likes {v}.")],
            "went": lambda: [(f"Where was {n} on {v[1]}?", f"{n} was at the {v[0]} on {v[1]}."),
                             (f"When was {n} at the {v[0]}?", f"{n} was at the {v[0]} on {v[1]}."),
                             (f"Who was at the {v[0]}?", f"{n} was at the {v[0]} on {v[1]}.")],
        }[rel]()
        return self.r.choice(options)

    def facts_of(self, n, used):
        """One or two facts about n with unused values, or None if luck ran out."""
        rels = ["lives", "owns", "pet", "job", "age", "likes", "went"]
        self.r.shuffle(rels)
        rels = [x for x in rels if x != "pet" or "owns" not in rels[:2]]
        facts = []
        for rel in rels[:self.r.choice((1, 2, 2))]:
            for _ in range(50):
                v = self.value(rel)
                words = {(rel, x) for x in (v if isinstance(v, tuple) else (v,))}
                if held(f"qa|{n}|{rel}|{v}") == self.want_held and not words & used:
                    break
            else:
                return None  # this name may have no value on our side of the split
            used |= words
            facts.append((rel, v))
        return facts

    def people(self, count):
        """Facts per person; no value appears twice, so every question has one answer."""
        used, table = set(), {}
        while len(table) < count:
            n = self.name()
            facts = None if n in table else self.facts_of(n, used)
            if facts:
                table[n] = facts
        return table

    def passage(self, table):
        sentences = []
        for n, facts in table.items():
            preds = [self.predicate(rel, v) for rel, v in facts]
            if len(preds) == 2 and self.r.random() < 0.6:
                sentences.append(f"{n} {preds[0]} and {preds[1]}.")
            else:
                sentences += [f"{n} {p}." for p in preds]
        if self.r.random() < 0.25:
            sentences.append(self.r.choice(FILLERS))
        self.r.shuffle(sentences)
        return " ".join(sentences)

    def unknown(self, table):
        """A question about a relation that the passage leaves open."""
        n, facts = self.r.choice(list(table.items()))
        have = {rel for rel, _ in facts}
        options = [q for rel, q in (("lives", f"Where does {n} live?"), ("job", f"What is {n}'s job?"),
                                    ("age", f"How old is {n}?"), ("likes", f"What does {n} like?"))
                   if rel not in have]
        return self.r.choice(options), "The passage does not say."

    def qa(self, turns=None):
        table = self.people(self.r.randint(3, 6) if self.long else self.r.choice((1, 2, 2, 3, 3)))
        text = self.passage(table)
        flat = [(n, rel, v) for n, facts in table.items() for rel, v in facts]
        self.r.shuffle(flat)
        turns = turns or self.r.randint(3, 6 if self.long else 4)
        pairs = [self.question(*f) for f in flat[:turns]]
        if self.r.random() < (0.08 if turns == 1 else 0.2):
            pairs[self.r.randrange(len(pairs))] = self.unknown(table)
        q = pairs[0][0]
        first = self.r.choice([f"{text}\n\n{q}", f"{text} {q}", f"Passage: {text}\nQuestion: {q}",
                               f"Read this passage: {text}\n\n{q}", f"{q}\n\n{text}",
                               f"{text}\n{q}"])
        return self.chat([(first, pairs[0][1])] + pairs[1:])

    # Stories --------------------------------------------------------------------

    def story(self):
        """A story as (text, facts asked for in a request, question-answer pairs)."""
        c = self.r.choice
        n, o = self.draw(lambda: (self.name(), c(W.OBJECTS)), lambda x: f"story|{x[0]}|{x[1]}")
        m = c([x for x in W.NAMES if x != n])
        col, city, day, food = c(W.COLOURS), c(W.CITIES), c(W.DAYS), c(W.FOODS)
        place, other = self.r.sample(W.PLACES, 2)
        text = c([f"Once upon a time, {n} lived in {city}.", f"{n} lived in {city}.",
                  f"There once was a child in {city} named {n}."])
        text += c([f" {n} had {an(col + ' ' + o)}.", f" {n} loved {an(col + ' ' + o)} more than anything."])
        text += c([f" On {day}, {n} took the {o} to the {place}.", f" One {day}, {n} took it to the {place}."])
        text += c([f" There {n} met {m}.", f" A friend named {m} was already there."])
        events = [
            (f" {n} lost the {o} near the {other}, but {m} found it.",
             [(f"Who found the {o}?", f"{m} found the {o}."), (f"Who lost the {o}?", f"{n} lost the {o}.")], n),
            (f" {m} had no {o}, so {n} shared it.",
             [(f"Who shared the {o}?", f"{n} shared the {o}.")], n),
            (f" Then it began to rain, and they ran to the {other}.",
             [("Where did they run?", f"They ran to the {other}.")], n),
            (f" {m} liked the {o} so much that {n} gave it away.",
             [(f"Who gave the {o} away?", f"{n} gave the {o} away.")], m),
        ]
        event, asks, owner = c(events)
        text += event + c([f" Later they ate {food} together.", f" They shared some {food}."])
        text += c([f" {n} and {m} were happy.", " It was a good day.", f" In the evening, {n} went home to {city}."])
        asks = asks + [(f"Where did {n} live?", f"{n} lived in {city}."),
                       (f"What colour was the {o}?", f"The {o} was {col}."),
                       (f"Where did {n} take the {o}?", f"{n} took the {o} to the {place}."),
                       ("On which day did this happen?", f"It happened on {day}."),
                       (f"Who did {n} meet?", f"{n} met {m}."),
                       ("What did they eat?", f"They ate {food}."),
                       (f"Who has the {o} now?", f"{owner} has the {o} now.")]
        return text, (n, m, col, o, place), asks

    def story_request(self, facts):
        """A request for a story and the words that the story must then contain."""
        n, m, col, o, place = facts
        thing = an(f"{col} {o}")
        return self.r.choice([
            (f"Tell me a story about {n} and {thing}.", [n, col, o]),
            (f"Tell a short story about {n}, {m} and {thing}.", [n, m, col, o]),
            (f"Write a story about {n} at the {place}.", [n, place]),
            (f"Tell me a story about {n} and {m}.", [n, m]),
            (f"Please tell me a story with {an(o)}.", [o]),
            ("Tell me a story.", []),
        ])

    def story_doc(self):
        text, facts, asks = self.story()
        if self.r.random() < 0.15:
            return [(text, STORY_WEIGHT), ("<|im_end|>", 1.0)]
        self.r.shuffle(asks)
        doc = self.chat([(self.story_request(facts)[0], text)] + asks[:self.r.randint(1, 4)])
        return [(t, STORY_WEIGHT if t.startswith(text) else w) for t, w in doc]

    # Arithmetic -----------------------------------------------------------------

    def sum_(self):
        def make():
            if self.r.random() < 0.5:
                return ("+", self.r.randint(0, 99), self.r.randint(0, 99))
            a, b = self.r.randint(0, 99), self.r.randint(0, 99)
            return ("-", max(a, b), min(a, b))

        def key(s):
            op, a, b = s  # a + b and b + a are one item, so neither leaks the other
            return f"sum|{op}|{max(a, b)}|{min(a, b)}"
        op, a, b = self.draw(make, key)
        return op, a, b, a + b if op == "+" else a - b

    def sum_pair(self):
        op, a, b, res = self.sum_()
        word = "plus" if op == "+" else "minus"
        verb = f"Add {a} and {b}." if op == "+" else f"Subtract {b} from {a}."
        q = self.r.choice([f"What is {a} {op} {b}?", f"What is {a} {op} {b}?", f"{a} {op} {b}",
                           f"What is {a} {word} {b}?", f"How much is {a} {op} {b}?",
                           f"{a} {op} {b} = ?", f"Calculate {a} {op} {b}.", verb])
        return q, f"{a} {op} {b} = {res}."

    def sum_doc(self):
        if self.r.random() < 0.6:  # plain lines: many sums for few tokens
            doc = []
            for _ in range(self.r.randint(6, 11)):
                op, a, b, res = self.sum_()
                doc += [(f"{a} {op} {b} =", PROMPT_WEIGHT), (f" {res}.", 1.0), ("\n", PROMPT_WEIGHT)]
            return doc[:-1] + [("<|im_end|>", 1.0)]
        return self.chat([self.sum_pair() for _ in range(self.r.randint(2, 4))])

    # JSON -------------------------------------------------------------------------

    def field(self):
        c, ri = self.r.choice, self.r.randint
        return c([("name", self.name()), ("age", ri(1, 99)), ("city", c(W.CITIES)),
                  ("country", c(list(W.CAPITALS))), ("job", c(W.JOBS)), ("color", c(W.COLOURS)),
                  ("animal", c(W.ANIMALS)), ("food", c(W.FOODS)), ("day", c(W.DAYS)),
                  ("month", c(W.MONTHS)), ("price", ri(1, 500)), ("count", ri(0, 99)),
                  ("active", c((True, False))), ("id", ri(1, 999)), ("place", c(W.PLACES)),
                  ("title", c(W.OBJECTS)), ("pet", c(W.PET_NAMES)), (c(W.OBJECTS), c(W.COLOURS)),
                  (c(W.FOODS), ri(1, 99)), (c(W.ANIMALS), self.name())])

    def json_pair(self):
        if self.r.random() < 0.15:
            return self.json_array()
        if self.r.random() < 0.25:
            return self.json_extract()

        def make():
            fields = dict(self.field() for _ in range(self.r.choice((1, 2, 2, 3, 3, 4))))
            if self.r.random() < 0.5:
                fields = {"name": self.name(), **fields}
            return fields
        obj = self.draw(make, lambda o: "json|" + json.dumps(o))
        show = {k: json.dumps(v) if isinstance(v, bool) else v for k, v in obj.items()}
        listed = join(f"{k} {v}" for k, v in show.items())
        eq = ", ".join(f"{k} = {v}" for k, v in show.items())
        q = self.r.choice([f"Write a JSON object with {listed}.", f"Write a JSON object with {listed}.",
                           f"Give me a JSON object with {listed}.", f"Make JSON with {listed}.",
                           f"Return JSON: {eq}", f"Write {listed} as JSON.",
                           f"I need a JSON object: {eq}."])
        return q, json.dumps(obj)

    def json_array(self):
        def make():
            pool = self.r.choice([W.COLOURS, W.CITIES, W.FOODS, W.ANIMALS, W.NAMES, W.OBJECTS])
            return self.r.sample(pool, self.r.randint(2, 4))
        items = self.draw(make, lambda x: "array|" + "|".join(x))
        q = self.r.choice(["Write a JSON array with {}.", "Give me a JSON array with {}.",
                           "Make a JSON list of {}."])
        return q.format(join(items)), json.dumps(items)

    def json_extract(self):
        def make():
            return (self.name(), self.r.randint(5, 99), self.r.choice(W.CITIES), self.r.choice(W.JOBS))
        n, age, city, job = self.draw(make, lambda x: f"extract|{x}")
        parts = [("age", age, f"is {age} years old"), ("city", city, f"lives in {city}"),
                 ("job", job, f"works as {an(job)}")]
        self.r.shuffle(parts)
        parts = parts[:self.r.choice((1, 2, 2, 3))]
        text = f"{n} {join(p[2] for p in parts)}."
        keys = join(["name"] + [p[0] for p in parts])
        q = self.r.choice([f"{text} Write this as a JSON object with {keys}.",
                           f"{text}\n\nGive me JSON with the keys {keys}.",
                           f"Write a JSON object with {keys}: {text}"])
        return q, json.dumps({"name": n, **{p[0]: p[1] for p in parts}})

    # Facts, memory, small talk -----------------------------------------------------

    def fact_raw(self):
        c = self.r.choice
        kind = c(("capital",) * 6 + ("capital_of",) * 3 + ("day", "month") + ("opposite",) * 2 + ("colour", "sound", "legs", "count"))
        if kind.startswith("capital"):
            k, v = c(list(W.CAPITALS.items()))
            if kind == "capital":
                return c([f"What is the capital of {k}?", f"What is the capital of {k}?",
                          f"Which city is the capital of {k}?", f"Name the capital of {k}.",
                          f"What is {k}'s capital?"]), f"The capital of {k} is {v}."
            return c([f"{v} is the capital of which country?", f"Which country has the capital {v}?",
                      f"What country is {v} the capital of?"]), f"{v} is the capital of {k}."
        if kind in ("day", "month"):
            seq = W.DAYS if kind == "day" else W.MONTHS
            i, step = self.r.randrange(len(seq)), c((1, -1))
            a, b, way = seq[i], seq[(i + step) % len(seq)], "after" if step == 1 else "before"
            return c([f"Which {kind} comes {way} {a}?", f"What {kind} comes {way} {a}?",
                      f"What comes {way} {a}?"]), f"{b} comes {way} {a}."
        if kind == "opposite":
            a, b = c(list(W.OPPOSITES.items()))
            a, b = c(((a, b), (b, a)))
            return c([f"What is the opposite of {a}?", f"Name the opposite of {a}.",
                      f"Which word is the opposite of {a}?"]), f"The opposite of {a} is {b}."
        if kind == "colour":
            k, v = c(list(W.THING_COLOURS.items()))
            return c([f"What colour is {k}?", f"Which colour is {k}?",
                      f"Name the colour of {k}."]), f"{cap(k)} is {v}."
        if kind == "sound":
            k, v = c(list(W.SOUNDS.items()))
            return c([f"What sound does {an(k)} make?", f"What does {an(k)} say?"]), f"{cap(an(k))} says {v}."
        if kind == "legs":
            k, v = c(list(W.LEGS.items()))
            return f"How many legs does {an(k)} have?", f"{cap(an(k))} has {v} legs."
        k, v = c(list(W.COUNTS.items()))
        return f"How many {k}?", v

    def fact(self):
        """What is held out is a wording: the fact itself is trained in others."""
        def make():
            q, a = self.fact_raw()
            lead = self.r.choice(("", "", "", "Please answer: ", "Tell me: ", "I have a question. "))
            return lead + q, a
        return self.draw(make, lambda x: "fact|" + x[0])

    def talk(self):
        asks, reply = self.r.choice(W.SMALL_TALK)
        return self.r.choice(asks), reply

    def recall(self):
        """The user says something about themselves and asks for it later."""
        c = self.r.choice
        n, city, k, food = self.draw(lambda: (self.name(), c(W.CITIES), self.r.randint(5, 99), c(W.FOODS)),
                                     lambda x: f"recall|{x}")
        told = [(c([f"My name is {n}.", f"I am {n}.", f"Hello, I am {n}.", f"Hi, my name is {n}."]),
                 f"Nice to meet you, {n}.", "What is my name?", f"Your name is {n}."),
                (f"I live in {city}.", f"{city} is a nice city.", "Where do I live?", f"You live in {city}."),
                (f"I am {k} years old.", "Thank you for telling me.", "How old am I?", f"You are {k} years old."),
                (f"I like {food}.", "That sounds good.", "What do I like?", f"You like {food}.")]
        self.r.shuffle(told)
        told = told[:self.r.choice((1, 2, 2, 3))]
        pairs = [t[:2] for t in told]
        if self.r.random() < 0.5:
            pairs.append(c((self.fact, self.sum_pair, self.talk))())
        self.r.shuffle(told)
        return self.chat(pairs + [t[2:] for t in told])

    def repeat_pair(self):
        """Plain copying, the one ability that most of the others rest on."""
        lists = (W.NAMES, W.CITIES, W.COLOURS, W.OBJECTS, W.ANIMALS, W.PET_NAMES, W.FOODS,
                 W.JOBS, W.PLACES, W.DAYS, W.MONTHS, list(W.CAPITALS))

        def word():
            draw = self.r.random()
            return self.name() if draw < 0.1 else str(self.r.randint(0, 99)) if draw < 0.2 else \
                self.r.choice(self.r.choice(lists))
        text = " ".join(word() for _ in range(self.r.randint(3, 16)))
        return self.r.choice(["Repeat: {}", "Repeat this: {}", "Say {}", "Repeat after me: {}"]).format(text), text

    def single(self):
        return self.r.choices((self.fact, self.sum_pair, self.json_pair, self.talk), (4, 3, 3, 2))[0]()

    # Documents ---------------------------------------------------------------------

    def chat(self, pairs):
        """ChatML as the template renders it; only the replies count fully."""
        doc = []
        if self.r.random() < 0.2:
            doc.append((f"<|im_start|>system\n{self.r.choice(W.SYSTEMS)}<|im_end|>\n", 0.0))
        for q, a in pairs:
            if self.r.random() < 0.3:
                q = q.replace("colour", "color")
            doc.append((f"<|im_start|>user\n{q}", PROMPT_WEIGHT))
            doc.append(("<|im_end|>\n<|im_start|>assistant\n", 0.0))
            doc.append((a + "<|im_end|>", 1.0))
            doc.append(("\n", 0.0))
        return doc[:-1]

    def document(self):
        r = self.r.random()
        if r < 0.22:
            return self.qa()
        if r < 0.32:
            return self.chat([self.repeat_pair() for _ in range(self.r.randint(1, 3))])
        if r < 0.42:
            return self.story_doc()
        if r < 0.62:
            return self.sum_doc()
        if r < 0.76:
            return self.chat([self.json_pair() for _ in range(self.r.randint(1, 3))])
        if r < 0.85:
            return self.chat([self.fact() for _ in range(self.r.randint(3, 5))])
        if r < 0.91:
            return self.recall()
        if r < 0.93:
            return self.chat([self.talk()])
        return self.chat([self.single() for _ in range(self.r.randint(2, 4))])


def messages(doc):
    """A chat document as messages; the last reply is the expected answer."""
    out = []
    for part in "".join(text for text, _ in doc).split("<|im_start|>")[1:]:
        role, content = part.replace("<|im_end|>", "").split("\n", 1)
        out.append({"role": role, "content": content[:-1] if content.endswith("\n") else content})
    return out[:-1], out[-1]["content"]


def story_ask(g):
    text, facts, asks = g.story()
    return g.chat([(g.story_request(facts)[0], text), g.r.choice(asks)])


def story_wish(g):
    """A request for a story; what is checked is that it holds what was asked for."""
    while True:
        ask, need = g.story_request(g.story()[1])
        if need:
            return {"messages": messages(g.chat([(ask, "")]))[0], "contains": need}


def heldout(seed, count):
    """The held-out items, `count` different ones per skill."""
    short, long = (Corpus(f"{seed}/{x}", want_held=True, long=x) for x in (False, True))
    chats = {
        "qa": lambda: short.qa(turns=1),
        "qa_long": lambda: long.qa(turns=1),
        "arithmetic": lambda: short.chat([short.sum_pair()]),
        "json": lambda: short.chat([short.json_pair()]),
        "facts": lambda: short.chat([short.fact()]),
        "memory": short.recall,
        "story_recall": lambda: story_ask(short),
    }
    makers = {skill: lambda make=make: dict(zip(("messages", "answer"), messages(make())))
              for skill, make in chats.items()}
    makers["story_request"] = lambda: story_wish(short)
    for skill, make in makers.items():
        seen = set()
        while len(seen) < count:
            item = make()
            if str(item) not in seen:
                seen.add(str(item))
                yield {"skill": skill, **item}


def main():
    ap = argparse.ArgumentParser(description="write the held-out set, or show samples")
    ap.add_argument("--heldout", help="file to write")
    ap.add_argument("--count", type=int, default=60, help="items per skill")
    ap.add_argument("--seed", type=int, default=2)
    ap.add_argument("--show", type=int, default=0, help="print this many training documents")
    args = ap.parse_args()
    if args.heldout:
        with open(args.heldout, "w") as f:
            for item in heldout(args.seed, args.count):
                f.write(json.dumps(item) + "\n")
    g = Corpus(args.seed)
    for _ in range(args.show):
        print("".join(text for text, _ in g.document()), end="\n\n")


if __name__ == "__main__":
    main()
