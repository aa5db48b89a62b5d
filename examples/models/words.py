"""The closed lists from which corpus.py builds its sentences."""

NAMES = """Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Karin Leo Mia Noah
Olga Paul Rosa Simon Tara Victor Wanda Yusuf Zoe Amir Bella Clara Dan Elena Frank
Hana Ivan Julia Kenji Lucy Marco Nina Oscar Petra Ravi Sara Tom Uma Vera Will Lena
Max Tim Kate Sam Eva Omar Lily Jack Maya Peter Mary John Alice Bob""".split()

CITIES = """Paris London Berlin Rome Madrid Lisbon Vienna Oslo Athens Dublin Prague
Warsaw Tokyo Cairo Delhi Lima Quito Boston Chicago Toronto Sydney Munich Milan Porto
Geneva Hamburg Kyoto Naples Seville Lyon""".split()

CAPITALS = {
    "France": "Paris", "England": "London", "Germany": "Berlin", "Italy": "Rome",
    "Spain": "Madrid", "Portugal": "Lisbon", "Austria": "Vienna", "Norway": "Oslo",
    "Greece": "Athens", "Ireland": "Dublin", "Poland": "Warsaw", "Japan": "Tokyo",
    "Egypt": "Cairo", "India": "New Delhi", "Peru": "Lima", "Ecuador": "Quito",
    "Canada": "Ottawa", "Australia": "Canberra", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Belgium": "Brussels",
    "Switzerland": "Bern", "Hungary": "Budapest", "Turkey": "Ankara", "Russia": "Moscow",
    "China": "Beijing", "Kenya": "Nairobi", "Brazil": "Brasilia", "Chile": "Santiago",
    "Cuba": "Havana", "Mexico": "Mexico City", "Iceland": "Reykjavik", "Romania": "Bucharest",
}

COLOURS = "red blue green yellow black white brown orange purple pink grey".split()

OBJECTS = """kite ball book hat bag cup lamp coat bike box drum boat clock scarf chair
pen umbrella guitar basket ring toy key map flag""".split()

ANIMALS = """dog cat horse bird rabbit duck goat sheep cow pig parrot turtle hamster
donkey goose""".split()

PET_NAMES = """Rex Bingo Luna Coco Spot Pepper Daisy Rocky Ginger Milo Nala Oreo Tiger
Snowy Buddy Biscuit""".split()

FOODS = """bread cheese soup rice apples pears cake fish honey pasta salad plums nuts
carrots cherries pancakes""".split()

JOBS = """teacher doctor baker farmer nurse pilot painter driver cook writer singer
builder gardener dentist sailor judge""".split()

PLACES = """park river market beach library museum station garden forest lake school
harbour castle bakery zoo village""".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

MONTHS = """January February March April May June July August September October
November December""".split()

OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "old": "young",
    "fast": "slow", "open": "closed", "light": "dark", "happy": "sad", "wet": "dry",
    "full": "empty", "high": "low", "left": "right", "early": "late", "hard": "soft",
    "long": "short", "rich": "poor", "strong": "weak", "loud": "quiet", "first": "last",
}

THING_COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "a lemon": "yellow",
    "a banana": "yellow", "the sky on a clear day": "blue", "milk": "white",
    "a ripe tomato": "red", "a carrot": "orange", "blood": "red", "the sun": "yellow",
    "chocolate": "brown",
}

SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "duck": "quack", "sheep": "baa",
    "pig": "oink", "horse": "neigh", "bird": "tweet", "goat": "maa", "goose": "honk",
}

LEGS = {
    "dog": "four", "cat": "four", "horse": "four", "bird": "two", "spider": "eight",
    "ant": "six", "bee": "six", "snake": "no", "cow": "four", "duck": "two",
}

COUNTS = {
    "days are in a week": "There are seven days in a week.",
    "months are in a year": "There are twelve months in a year.",
    "hours are in a day": "There are 24 hours in a day.",
    "minutes are in an hour": "There are 60 minutes in an hour.",
    "seconds are in a minute": "There are 60 seconds in a minute.",
    "letters are in the English alphabet": "There are 26 letters in the English alphabet.",
    "sides does a triangle have": "A triangle has three sides.",
    "sides does a square have": "A square has four sides.",
    "wheels does a bicycle have": "A bicycle has two wheels.",
    "wheels does a car have": "A car has four wheels.",
    "seasons are in a year": "There are four seasons in a year.",
    "bytes are in a kilobyte": "There are 1000 bytes in a kilobyte.",
}

SYLLABLES = """ba be bo ca da de do fa fi go ha jo ka ke ki la le li lo ma me mi mo na
ne ni no pa po ra re ri ro sa se si so ta te ti to va vi za ze zo""".split()

SYSTEMS = [
    "You are a helpful assistant.",
    "You are a small and friendly assistant.",
    "Answer briefly.",
    "You answer questions about the text you are given.",
    "You are the demo model of libinfer.",
]

WHO = ("I am a tiny demo model that comes with libinfer. I can tell short stories, answer "
       "questions about a passage, add and subtract small numbers and write JSON.")
CAN = ("I can tell short stories, answer questions about a passage, add and subtract "
       "numbers up to 99 and write JSON objects.")
LIBINFER = "libinfer is a C library that runs models inside your own program."

SMALL_TALK = [
    (["Hello!", "Hello", "Hi!", "Hi", "Hey", "Hi there!", "Hello there!", "hello", "hi"],
     "Hello! How can I help you?"),
    (["Good morning!", "Good morning"], "Good morning! How can I help you?"),
    (["Good evening!", "Good evening"], "Good evening! How can I help you?"),
    (["Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.",
      "Are you a model?", "What is your name?", "What model are you?", "who are you?"], WHO),
    (["What can you do?", "How can you help me?", "What can I ask you?", "Help",
      "What are you good at?", "What do you know?", "Can you help me?"], CAN),
    (["What is libinfer?", "Tell me about libinfer.", "What does libinfer do?",
      "Do you know libinfer?", "Explain libinfer."], LIBINFER),
    (["How are you?", "How are you today?", "How do you do?"],
     "I am fine, thank you. How can I help you?"),
    (["Thank you.", "Thanks!", "Thank you!", "Thanks", "Thank you very much."],
     "You are welcome!"),
    (["Goodbye.", "Bye!", "Bye", "Goodbye!", "See you!", "Good night."],
     "Goodbye!"),
    (["How big are you?", "How many parameters do you have?", "Are you large?"],
     "I am very small: I have about four million parameters."),
    (["Write a poem.", "Translate this into French.", "What is the weather today?",
      "Who won the game?", "What time is it?", "Tell me the news.", "Write a program.",
      "What is the meaning of life?", "Explain physics.", "Can you sing?"],
     "I am too small for that. I can tell stories, answer questions about a passage, "
     "add small numbers and write JSON."),
]
