"""studies/RESULTS.md, of which each study owns one part."""


def replace_section(text: str, title: str, section: str) -> str:
    """`text` with the section `## title` replaced, or added at its end."""
    before, found, after = text.partition(f"## {title}\n")
    rest = after.partition("\n## ")[2]
    kept = f"\n## {rest}" if found and rest else ""
    return f"{before.rstrip()}\n\n## {title}\n\n{section.strip()}\n{kept}"
