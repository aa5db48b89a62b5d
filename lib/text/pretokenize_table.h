/* The pre-tokenizers by name: patterns as the models' authors published them in
 * their tokenizer.json or encoder source. Written for PCRE2 with UTF and UCP. */
#ifndef TEXT_PRETOKENIZE_TABLE_H
#define TEXT_PRETOKENIZE_TABLE_H

#include "text/pretokenize.h"

/* Unicode's White_Space. PCRE2's own \s also holds U+180E, which Unicode took out in 6.3. */
#define WS     "\\p{WSpace}"
#define NOT_WS "\\P{WSpace}"

/* "'s" and its like; (?i) spans all of Unicode, so that U+017F is an s, as in the originals. */
#define ANY_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES   WS "+(?!" NOT_WS ")|" WS "+"

#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES

/* From cl100k_base on: digits in groups, line ends kept with what they follow. */
#define CL100K(digits)                                                                             \
    ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" WS     \
             "*[\\r\\n]+|" SPACES

/* From o200k_base on: words also break where lower case turns into upper case. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(suffix, digits)                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" suffix "|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" WS "*[\\r\\n]+|" SPACES

/* The cased letters DeepSeek LLM lists one by one. */
#define DEEPSEEK_LETTERS                                                                           \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"                 \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"         \
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"        \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                  \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                 \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"               \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"         \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define DEEPSEEK_CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* Space at the end of a piece. The published \s+$ means the same but would try each
 * space of a run that is followed by something else: quadratic in the text. */
#define TRAILING_SPACE "(?<!" WS ")" WS "++$"

#define BLOOM " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

/* Digits in threes, counted from the end of a run that `end` follows. Published as a look at the
 * whole run from each place, which is quadratic: after the first group the rest is even. */
#define THREES(digit, end)                                                                         \
    "\\G(?<=" digit ")" digit "{3}|(?<!" digit ")" digit "{1,3}(?=(?:" digit "{3})*+" end ")"

/* Kimi K2: as o200k, but Han characters are words of their own. */
#define NO_HAN(set) "(?:(?![\\p{sc:Han}])" set ")"
#define KIMI_UPPER  NO_HAN(UPPER)
#define KIMI_LOWER  NO_HAN(LOWER)
#define KIMI                                                                                       \
    "[\\p{sc:Han}]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" ANY_CASE                 \
    "?|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+" KIMI_LOWER "*" ANY_CASE "?|\\p{N}{1,3}| ?[^" WS      \
    "\\p{L}\\p{N}]+[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES

#define KANA_AND_HAN "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define SIGNED_WORD                                                                                \
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"

/* Scripts without spaces between words. */
#define AFMOE_SCRIPTS                                                                              \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}"                \
    "\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E00}-\\x{E7F}\\x{E80}-\\x{EFF}"  \
    "\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}"                 \
    "\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+"
#define YOUTU_SCRIPTS                                                                              \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}"     \
    "\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|"       \
    "[\\x{3105}-\\x{312F}]+|" KANA_AND_HAN

/* Words with single spaces between them. */
#define EXAONE_MOE                                                                                 \
    ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}[\\p{L}\\p{M}]*+(?: \\p{L}[\\p{L}\\p{M}]*+)*+|\\p{N}| " \
             "?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]?|" WS "*[\\r\\n]|" SPACES

/* Spaces in powers of two. */
#define JAIS_SPACES(n) WS "{" n "}(?!" NOT_WS ")|"

/* Other spellings of the same patterns, as files have them, translated for PCRE2. */
static const struct {
    const char *other, *ours;
} pretokenizer_spellings[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES, GPT2},
    {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^" WS
     "\\p{L}\\p{N}]++[\\r\\n]*|" WS "*[\\r\\n]|" SPACES,
     CL100K("\\p{N}{1,3}")},
    {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WS
     "\\p{L}\\p{N}]++[\\r\\n]*|" WS "*[\\r\\n]|" SPACES,
     CL100K("\\p{N}")},
    {WS "+(?m:$)", TRAILING_SPACE},
    {ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^" WS
              "\\p{L}\\p{N}]+[\\r\\n/]?|" WS "*[\\r\\n]|" SPACES,
     EXAONE_MOE},
    {"\\p{Nd}{1,3}(?=(?:\\p{Nd}{3})*\\b)", THREES("\\p{Nd}", "\\b")},
    {"(?=(\\p{Nd}{3})+(?!\\p{Nd}))", THREES("\\p{Nd}", "(?!\\p{Nd})")},
};

struct pretokenizer_row {
    const char *names; /* separated by spaces */
    const char *patterns[TEXT_PRE_MAX_PATTERNS];
    uint32_t flags;
};

static const struct pretokenizer_row pretokenizers[] = {
    {"gpt-2 default phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum "
     "modern-bert jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe",
     {GPT2},
     0},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", {"\\p{N}", GPT2}, 0},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     {CL100K("\\p{N}{1,3}")},
     TEXT_PRE_IGNORE_MERGES | TEXT_PRE_ADD_BOS},
    {"dbrx smaug-bpe glm4 chatglm-bpe", {CL100K("\\p{N}{1,3}")}, 0},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open grok-2 stablelm2 bailingmoe "
     "bailingmoe2 llada-moe",
     {CL100K("\\p{N}")},
     0},
    {"qwen35",
     {ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
               "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES},
     0},
    {"gpt-4o llama4 kanana2 minimax-m2 talkie", {O200K(ANY_CASE "?", "\\p{N}{1,3}")}, 0},
    {"tekken", {O200K("", "\\p{N}")}, TEXT_PRE_IGNORE_MERGES | TEXT_PRE_ADD_BOS},
    /* The original also parts digits from the rest, but where no merge of its vocabulary crosses.
     */
    {"falcon", {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}, 0},
    {"deepseek-llm",
     {"[\\r\\n]", WS "?[" DEEPSEEK_LETTERS "]+",
      WS "?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
      TRAILING_SPACE, DEEPSEEK_CJK, "\\p{N}+"},
     0},
    {"deepseek-coder", {"[\\r\\n]", WS "?\\p{L}+", WS "?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}, 0},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
      "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES},
     0},
    {"bloom poro-chat gpt3-finnish", {BLOOM}, 0},
    {"viking", {BLOOM, "\\p{N}"}, 0},
    {"granite-embed-multi-97m", {O200K(ANY_CASE "?", "\\p{N}{1,3}")}, TEXT_PRE_IGNORE_MERGES},
    {"tiny_aya cohere2moe", {THREES("\\p{Nd}", "\\b"), O200K(ANY_CASE "?", "\\p{N}{1,3}")}, 0},
    {"superbpe", {"\\p{N}+", THREES("\\p{Nd}", "(?!\\p{Nd})")}, 0},
    {"kimi-k2", {KIMI}, 0},
    {"afmoe",
     {THREES("\\p{N}", "(?!\\p{N})"), AFMOE_SCRIPTS,
      SIGNED_WORD "[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES},
     0},
    {"youtu", {YOUTU_SCRIPTS, O200K(ANY_CASE "?", "\\p{N}")}, TEXT_PRE_IGNORE_MERGES},
    {"spark2_5", {"\\p{N}{1,3}", KANA_AND_HAN, SIGNED_WORD "|[\\r\\n]|" SPACES, "\\p{N}"}, 0},
    {"jais-2",
     {ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" WS
               "*[\\r\\n]+|" JAIS_SPACES("512") JAIS_SPACES("256") JAIS_SPACES("128")
                   JAIS_SPACES("64") JAIS_SPACES("32") JAIS_SPACES("16") JAIS_SPACES("8")
                       JAIS_SPACES("4") JAIS_SPACES("1,2") WS "{1}"},
     0},
    {"exaone-moe", {EXAONE_MOE}, 0},
    {"seed-coder",
     {ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^" WS "\\p{L}\\p{N}\\r\\n]+|" WS
               "*[\\r\\n]+|" SPACES},
     0},
    {"ufakzeka",
     {"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" WS
      "*[\\r\\n]+|" SPACES},
     0},
    {"laguna", {"[^\\n]+|[\\n]+", CL100K("\\p{N}")}, 0},
    {"minicpm5", {"\\p{N}{1,3}", CL100K("\\p{N}+")}, TEXT_PRE_IGNORE_MERGES},
    /* Sentinel and image tokens are special tokens, too; the original cuts at both. */
    {"chameleon",
     {"<sentinel:[0-9]+>", "(?:IMGIMG)(?:[A-I]{1,4})Z", "[\\t\\n]|    |  ", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
     TEXT_PRE_ADD_BOS},
    {"gemma4 granite-embed-multi-311m sarvam-moe", {"[^\\n]+|[\\n]+"}, TEXT_PRE_CHARS},
};

#endif
