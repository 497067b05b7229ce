"""Canon 1 a second time, with nothing but Python's standard library.

Writes the fixtures beside it: `python3 fingerprints.py > fingerprints.json`. The tests of
`src/formula` hold Sillage against them, so the two implementations check each other and canon 1
cannot drift. It is also a reference for clients that compute a formula's id themselves.
"""
import hashlib
import json
import sys
import unicodedata
from decimal import Decimal, localcontext

GONE = {0xAE, 0x2122, 0x2120}
QUOTES = {0x27, *range(0x2018, 0x201C), 0x2039, 0x203A, 0xFF07, 0x2B9, *range(0x2BB, 0x2BE),
          0x2032, 0x2035, 0x55A, 0x7F4, 0x7F5, 0xA78B, 0xA78C}
DEFAULT_IGNORABLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5),
    (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
]
WHITE_SPACE = {*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
               0x2029, 0x202F, 0x205F, 0x3000}


def mark(text):
    kept = (c for c in text if ord(c) not in GONE)
    dashed = ("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in kept)
    return "".join("'" if ord(c) in QUOTES else c for c in dashed)


def fold(text):
    ignorable = lambda c: any(low <= ord(c) <= high for low, high in DEFAULT_IGNORABLE)
    visible = "".join(c for c in text if not ignorable(c))
    folded = unicodedata.normalize("NFKC", visible).casefold()
    return unicodedata.normalize("NFKC", folded)


def name_key(name):
    key = mark(name)
    while (folded := fold(key)) != key:
        key = folded
    return "".join(c for c in mark(key) if ord(c) not in WHITE_SPACE)


def canonical_bytes(body):
    formula = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    lines = []
    with localcontext() as context:
        context.prec = 100
        for line in formula["materials"]:
            scaled = Decimal(line["concentration"]).scaleb(30)
            assert scaled == int(scaled), "more than 30 decimals"
            if scaled > 0:
                lines.append((name_key(line["name"]).encode(), int(scaled)))
    assert len({key for key, _ in lines}) == len(lines), "a material comes twice"
    parts = [b"canon1", len(lines).to_bytes(4, "big")]
    for key, value in sorted(lines):
        parts += [len(key).to_bytes(4, "big"), key, value.to_bytes(16, "big")]
    return b"".join(parts)


def body(*lines):
    text = lambda name: json.dumps(name, ensure_ascii=False)
    materials = ",".join(f'{{"name":{text(name)},"concentration":{digits}}}'
                         for name, digits in lines)
    return f'{{"name":"A","materials":[{materials}]}}'


CASES = [
    ("one line", body(("Hedione", "100"))),
    ("two lines", body(("Bergamot Oil", "10"), ("Iso E Super", "90"))),
    ("the same in another order and spelling",
     body(("iso e\u00a0 SUPER", '"9.0e1"'), (" BERGAMOTOIL ", "10.000"))),
    ("one digit off", body(("Bergamot Oil", "10.0001"), ("Iso E Super", "90"))),
    ("a line of zero is left out",
     body(("Bergamot Oil", "10"), ("Water", "0.00"), ("Iso E Super", "90"), ("Air", "-0"))),
    ("smallest and largest",
     body(("a", "1e-30"), ("b", "0.000000000000000000000000000001e0"), ("c", "100.000"))),
    ("thirty decimals",
     body(("a", "99.999999999999999999999999999999"), ("b", "15.500000000000000001"))),
    ("exponents", body(("a", "1e2"), ("b", "1.25E+1"), ("c", "1250e-2"), ("d", "0.00e999999999"))),
    ("keys that begin alike",
     body(("ab", "1"), ("a", "2"), ("abcdefgh", "3"), ("abcdefghi", "4"), ("abcdefgg z", "5"))),
    ("keys sort by bytes, not by letters",
     body(("\u00e9", "1"), ("z", "2"), ("\uff5a\uff5a", "3"), ("\U00010428", "4"),
          ("\ufb01", "5"))),
    ("marks", body(("Hedione\u00ae HC", "1"), ("Iso E Super\u2122", "2"), ("Ambrox\u2120", "3"))),
    ("dashes and quotes",
     body(("\u03b1\u2011Pinene", "1"), ("(\u2212)\u2010Guaiol", "2"), ("fleur d\u2019oranger", "3"),
          ("2\u20323\u2033-diol", "4"), ("x\u207b", "5"), ("\uff0dy\ufe63", "6"))),
    ("accents are kept", body(("Ros\u00e9", "1"), ("Rose", "2"), ("Cr\u00eape", "3"))),
    ("accents in two pieces", body(("Rose\u0301", "1"), ("Rose", "2"), ("Cre\u0302pe", "3"))),
    ("full case folding",
     body(("Stra\u00dfe", "1"), ("\u039f\u03a3\u03bf\u03c2", "2"), ("\u0130x", "3"),
          ("\u1e9eb", "4"), ("\u0149", "5"), ("\u1fb7", "6"), ("\u13a0\uab70", "7"))),
    ("compatibility",
     body(("\ufb01g", "1"), ("\uff26\uff29\uff27 \uff12", "2"), ("H\u2082O", "3"), ("\u212b", "4"),
          ("\u2126 \u212a", "5"), ("\u33a5", "6"), ("\ufdfa", "7"), ("\u2460", "8"))),
    ("default-ignorable code points",
     body(("Ci\u00adtral", "1"), ("Lin\u200balool", "2"), ("\ufeffMusk", "3"),
          ("Oud\ufe0f", "4"), ("Ge\u200dra\u2060niol", "5"), ("\u115fx\u3164", "6"))),
    ("white space of all kinds",
     body(("a\u2003b", "1"), ("c\u3000d\u202f", "2"), ("e\tf", "3"), ("g\u0085h", "4"),
          ("i\u1680j", "5"), ("k\u2028l\u2029", "6"), ("a\u00b4", "7"))),
    ("an iota below goes through two rounds",
     body(("\u0345\u0301\u03b1", "1"), ("\u1f80\u0345", "2"), ("\u03d2\u0301", "3"))),
    ("other scripts",
     body(("\uac00\u11a8", "1"), ("\u6c88\u9999", "2"), ("\u0639\u0648\u062f", "3"),
          ("\u05d0\u05be\u05d1", "4"), ("\U0001f339\ufe0f", "5"), ("\u0e01\u0e33", "6"))),
]


def main():
    cases = []
    for why, text in CASES:
        canonical = canonical_bytes(text)
        cases.append({"why": why, "body": text, "canonical": canonical.hex(),
                      "fingerprint": hashlib.sha256(canonical).hexdigest()})
    json.dump({"canon": 1, "cases": cases}, sys.stdout, indent=1, ensure_ascii=True)
    print()


main()
