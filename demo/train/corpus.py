"""PostgreSQL's HTML documentation -> clean text, one JSON line a page, split by page into train and held-out."""

import argparse
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

HTML = Path("/usr/share/doc/postgresql-doc-15/html")
WORK = Path(__file__).resolve().parent.parent / "build"

# Pages that are lists rather than language: they would teach the model page numbers, names and keyword tables.
LEFT_OUT = re.compile(
    r"^(index|bookindex|release.*|prior-releases|biblio|sql-keywords-appendix|errcodes-appendix"
    r"|features.*|unsupported-features.*|acronyms)\.html$"
)
SKIPPED_CLASSES = {"navheader", "navfooter", "toc", "footnotes", "footnote", "indexterm"}
BLOCKS = set("body div p pre h1 h2 h3 h4 h5 h6 ul ol li dl dt dd table thead tbody tfoot tr blockquote hr".split())
NUMBERING = re.compile(r"^((Chapter|Appendix|Part|Table|Figure|Example)\s+)?([A-Z]|[IVX]+|\d+)(\.\d+)*\.\s+")


def tag_of(element):
    return element.tag.rsplit("}", 1)[-1]


def is_skipped(element):
    return tag_of(element) in ("head", "sup") or bool(SKIPPED_CLASSES & set(element.get("class", "").split()))


def is_block(element):
    return any(tag_of(e) in BLOCKS for e in element.iter())


def inline(element):
    """All text of an element, with line breaks as they are in the source."""
    if is_skipped(element):
        return ""
    if tag_of(element) == "br":
        return " "
    # Paragraphs that share a table cell need a space between them.
    end = " " if tag_of(element) in BLOCKS else ""
    return (element.text or "") + "".join(inline(c) + (c.tail or "") for c in element) + end


def tidy(text):
    return re.sub(r"\s+", " ", text).strip()


def heading(text):
    """Section numbers say nothing about the language: "5.1. Table Basics" -> "Table Basics"."""
    return NUMBERING.sub("", tidy(text))


def code(element):
    lines = [line.rstrip() for line in inline(element).replace("\xa0", " ").expandtabs(4).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def walk(element, out):
    """Append (text, separator before the next block) pairs for everything below an element."""
    if is_skipped(element):
        return
    tag = tag_of(element)
    if tag == "pre":
        out.append((code(element), "\n\n"))
    elif tag == "tr":
        out.append((" | ".join(filter(None, (tidy(inline(cell)) for cell in element))), "\n"))
    elif tag == "dt":
        out.append((tidy(inline(element)), "\n"))
    elif tag[0] == "h" and tag[1:].isdigit() or element.get("class") == "title":
        out.append((heading(inline(element)), "\n\n"))
    else:
        start = len(out)
        run = element.text or ""
        for child in element:
            if is_block(child):
                out.append((tidy(run), "\n\n"))
                walk(child, out)
                run = child.tail or ""
            else:
                run += inline(child) + (child.tail or "")
        out.append((tidy(run), "\n\n"))
        out[start:] = [pair for pair in out[start:] if pair[0]]
        if tag == "li" and len(out) > start:
            out[start] = ("- " + out[start][0], out[start][1])
        if tag in ("table", "dl") and len(out) > start:
            out[-1] = (out[-1][0], "\n\n")


def page_text(path):
    root = ET.fromstring(path.read_bytes())
    out = []
    for child in root:
        walk(child, out)
    text = "".join(block + gap for block, gap in out).replace("\xa0", " ").strip()
    title = heading(next(e for e in root.iter() if tag_of(e) == "title").text)
    return text if text.startswith(title) else title + "\n\n" + text


def is_held_out(name):
    """One page in twenty, chosen by its name alone, so that the split never depends on order or chance."""
    return hashlib.sha256(name.encode()).digest()[0] % 20 == 0


def load(work, part):
    return [json.loads(line)["text"] for line in (work / f"{part}.jsonl").read_text().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--html", type=Path, default=HTML)
    parser.add_argument("--work", type=Path, default=WORK)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parts = {"train": [], "held_out": []}
    for path in sorted(args.html.glob("*.html")):
        if LEFT_OUT.match(path.name):
            continue
        text = page_text(path)
        if len(text) >= 200:
            parts["held_out" if is_held_out(path.name) else "train"].append({"page": path.name, "text": text})
    for part, pages in parts.items():
        (args.work / f"{part}.jsonl").write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pages))
        print(f"{part}: {len(pages)} pages, {sum(len(p['text'].encode()) for p in pages)} bytes")


if __name__ == "__main__":
    main()
