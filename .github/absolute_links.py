"""Makes the links of a page absolute, for where it stands alone: on the page of a release.

python .github/absolute_links.py README.md https://github.com/OWNER/NAME v1.2.3
"""

import re
import sys
from pathlib import Path

# [text](target), ![text](target): outside of code, where a page of ours has no such thing.
LINK = re.compile(r"(!\[[^\]]*\]\(|\]\()([^)\s]+)(?=\))")


def absolute(page: str, repository: str, tag: str) -> str:
    """The page with its relative links as URLs of a repository at a tag."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        kind = "raw" if text.startswith("!") else "blob"
        return f"{text}{repository}/{kind}/{tag}/{target}"

    return LINK.sub(link, page)


if __name__ == "__main__":
    path, repository, tag = sys.argv[1:]
    page = Path(path).read_text("utf-8")
    Path(path).write_text(absolute(page, repository, tag), "utf-8")
